"""Captions that are proposed: from names, and by a random BLIP of the real classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mmtune.cli import main
from mmtune.data.check import check
from mmtune.errors import BaseModelError
from mmtune.image.corpus.propose_captions import (
    ModelCaptioner,
    by_name,
    one_line,
    proposal_from_name,
    propose,
)
from mmtune.image.pictures.pixels import open_image
from tests.data.pieces import IMAGE, picture, write_image
from tests.image import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "brand"
    for i, name in enumerate(["red-apple_01.png", "IMG_2041.jpg", "in/0007 green pear.webp"]):
        write_image(folder / name, i)
    write_image(folder / "told.png", 8)
    (folder / "told.txt").write_text("as it is told")
    write_image(folder / "kohya.png", 9)
    (folder / "kohya.caption").write_text("as kohya tells it")
    write_image(folder / "listed.png", 10)
    (folder / "metadata.jsonl").write_text('{"file_name": "listed.png", "text": "as listed"}\n')
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.txt")}


def test_captions_from_names_never_overwrite(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = texts(folder)
    assert main(["caption", str(folder), "--dry-run"]) == 0
    dry = capsys.readouterr().out
    assert texts(folder) == before == {"told.txt": "as it is told"}
    assert "2 would be written, 3 had one already, 1 without" in dry
    assert main(["caption", str(folder)]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[:3] == dry.splitlines()[:3]
    assert f"{folder / 'red-apple_01.txt'}: red apple" in said
    assert f"{folder / 'IMG_2041.jpg'}: nothing to say" in said
    assert "2 written, 3 had one already, 1 without" in said
    after = {"red-apple_01.txt": "red apple\n", "in/0007 green pear.txt": "green pear\n"}
    assert texts(folder) == before | after
    (folder / "red-apple_01.txt").write_text("mine")
    assert main(["caption", str(folder)]) == 0
    assert "0 written, 5 had one already, 1 without" in capsys.readouterr().out
    assert texts(folder)["red-apple_01.txt"] == "mine"
    rows = check(folder, IMAGE, strict=False).rows
    assert {r.reference for r in rows} >= {"mine", "green pear", "as it is told", "as listed"}


def test_one_caption_for_two_files_of_one_name(tmp_path: Path) -> None:
    write_image(tmp_path / "pear.jpg")
    write_image(tmp_path / "pear.png", 1)
    for write in (False, True):
        found = [each.outcome for each in propose(tmp_path, by_name, write=write)]
        assert found == ["new", "kept"]


def test_a_file_that_comes_meanwhile_stays(tmp_path: Path) -> None:
    write_image(tmp_path / "pear.png")

    def slow(image: Path) -> str:
        image.with_suffix(".txt").write_text("somebody else's")
        return "ours"

    assert [each.outcome for each in propose(tmp_path, slow)] == ["kept"]
    assert (tmp_path / "pear.txt").read_text() == "somebody else's"
    (tmp_path / "link.txt").symlink_to(tmp_path / "outside.txt")
    write_image(tmp_path / "link.png", 1)
    assert [each.outcome for each in propose(tmp_path, by_name)] == ["kept", "kept"]
    assert not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize(
    ("make", "arguments", "says"),
    [
        ("nothing", [], "no such folder"),
        ("empty", [], "holds no images"),
        ("manifest", [], "already lists these images"),
        ("images", ["--prompt", "x"], "--model"),
        ("images", ["--model", "./nothere"], "can't be downloaded from the hub"),
        ("images", ["--model", "owner/nothere"], "cure: connect to the hub, or name the folder"),
        ("images", ["--model", "."], "can't be loaded as an image captioner"),
    ],
)
def test_errors(
    tmp_path: Path, make: str, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    if make != "nothing":
        folder.mkdir()
    if make in ("manifest", "images"):
        write_image(folder / "a.png")
    if make == "manifest":
        (folder / "manifest.jsonl").write_text("{}")
    assert main(["caption", str(folder), *arguments]) == 2
    message = capsys.readouterr().err
    assert says in message
    assert "cure:" in message
    assert not list(tmp_path.rglob("*.txt"))


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BlipForConditionalGeneration with its processor, saved as the hub's are."""
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    torch.manual_seed(0)
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
    pieces = [*marks, "a", "red", "green", "apple", "pear", "on", "white", "##s"]
    folder = tmp_path_factory.mktemp("blip")
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    tokenizer = BertTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        additional_special_tokens=["[DEC]", "[ENC]"],
    )
    common = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
              "num_attention_heads": 2}  # fmt: skip
    config = BlipConfig(
        text_config={
            **common,
            "vocab_size": len(pieces),
            "encoder_hidden_size": 16,
            "projection_dim": 16,
            "max_position_embeddings": 64,
            "bos_token_id": 5,
            "pad_token_id": 0,
            "eos_token_id": 3,
            "sep_token_id": 3,
        },
        vision_config={**common, "image_size": 32, "patch_size": 16},
        projection_dim=16,
        image_text_hidden_size=16,
    )
    model = BlipForConditionalGeneration(config)
    for weights in model.parameters():  # or the same word wins whatever the image shows
        torch.nn.init.normal_(weights, std=0.4)
    model.save_pretrained(folder)
    images = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def test_a_model_captions_as_it_does_in_transformers(
    blip: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import BlipForConditionalGeneration, BlipProcessor

    model = BlipForConditionalGeneration.from_pretrained(blip).eval()
    processor = BlipProcessor.from_pretrained(blip)

    def theirs(path: Path) -> str:
        inputs: Any = processor(images=Image.open(path).convert("RGB"), return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=48, do_sample=False)
        return str(processor.decode(ids[0], skip_special_tokens=True))

    (folder / "broken.png").write_bytes(b"no image")
    assert main(["caption", str(folder), "--model", str(blip)]) == 2, "one can't be read"
    out, err = capsys.readouterr()
    assert "broken.png is no image" in err
    assert "3 written, 3 had one already, 0 without, 1 can't be read" in out
    images = {"red-apple_01": "png", "IMG_2041": "jpg", "in/0007 green pear": "webp"}
    wanted = {f"{n}.txt": f"{theirs(folder / f'{n}.{s}')}\n" for n, s in images.items()}
    assert texts(folder) == wanted | {"told.txt": "as it is told"}
    assert all(text.strip() for text in wanted.values())
    captioner = ModelCaptioner(str(blip), prompt="a red")
    assert captioner(folder / "IMG_2041.jpg").startswith("a red")


def test_no_other_model_is_taken(tmp_path: Path, blip: Path) -> None:
    with pytest.raises(BaseModelError, match="can't be loaded as an image captioner"):
        ModelCaptioner(str(tiny.saved("sd")))
    picture(0, (64, 64)).save(tmp_path / "a.png")
    captioner = ModelCaptioner(str(blip))
    captioner.processor = None  # as one that lacks what it needs
    with pytest.raises(BaseModelError, match="--prompt"):
        captioner(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").size == (64, 64)


class Talker:
    """A processor with a chat template and a decoder that repeats what it is asked."""

    chat_template = "…"

    def __init__(self) -> None:
        self.asked: Any = None

    def apply_chat_template(self, messages: Any, **options: Any) -> Any:
        from transformers import BatchFeature

        assert options["tokenize"]
        assert options["add_generation_prompt"]
        self.asked = messages
        return BatchFeature({"input_ids": torch.tensor([[5, 6, 7]])})

    def batch_decode(self, ids: torch.Tensor, skip_special_tokens: bool) -> list[str]:
        return [" ".join(map(str, row)) for row in ids.tolist()]

    def generate(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.cat([input_ids, torch.tensor([[8, 9]])], 1)


def test_a_model_that_converses_is_asked_and_its_question_cut_off(
    tmp_path: Path, blip: Path
) -> None:
    picture(0, (64, 64)).save(tmp_path / "a.png")
    captioner = ModelCaptioner(str(blip))
    talker = Talker()
    captioner.processor, captioner.model = talker, talker  # type: ignore[assignment]
    assert captioner(tmp_path / "a.png") == "8 9"
    (message,) = talker.asked
    assert [part["type"] for part in message["content"]] == ["image", "text"]
    assert "one short sentence" in message["content"][1]["text"]


def test_captions_are_one_line() -> None:
    assert one_line('  "A red\napple."\n\nLet me know …') == "A red apple."
    assert len(one_line("word " * 1000)) <= 500


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("moon 16bit", "moon"), ("moon 16 bit", "moon"), ("apple Kopie 2", "apple"),
        ("apple - Copy (2)", "apple"), ("hard copy", "hard copy"), ("fair (1)", "fair"),
        ("Rocket FINAL v2", "Rocket"), ("logo@2x", "logo"), ("red apple_sRGB_300dpi", "red apple"),
        ("copia di seta", "copia di seta"), ("bitter lemon", "bitter lemon"),
        ("pixel art cat", "pixel art cat"), ("IMG_2041 copy", ""), ("Kopie (2)", ""),
    ],
)  # fmt: skip
def test_copy_marks_and_technical_words_are_no_caption(name: str, words: str) -> None:
    assert proposal_from_name(name) == words


def test_a_copy_beside_its_file_has_the_caption_of_the_file(tmp_path: Path) -> None:
    for name in ("green pear", "Copy of green pear", "green pear copy", "copy of an old master"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    found = {proposal.image.stem: proposal.caption for proposal in propose(tmp_path, by_name)}
    assert found == {
        **dict.fromkeys(("green pear", "Copy of green pear", "green pear copy"), "green pear"),
        "copy of an old master": "copy of an old master",
    }


def test_one_name_of_unlike_pictures_is_no_proposal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(4):
        write_image(tmp_path / f"Summer Campaign 0{i}.png", i)
    for i, name in enumerate(("apple", "pear", "plum", "fig")):
        write_image(tmp_path / f"{name}.png", 10 + i)
    (tmp_path / "cherry.png").write_bytes(b"")
    assert main(["caption", str(tmp_path)]) == 2
    said = capsys.readouterr().out
    assert texts(tmp_path) == {
        f"{name}.txt": f"{name}\n" for name in ("apple", "pear", "plum", "fig")
    }
    assert "Summer Campaign 00.png: nothing to say" in said
    assert "--model" in said
    assert ".txt" in said


def test_names_of_several_things_with_views_are_proposals(tmp_path: Path) -> None:
    for i in range(3):
        write_image(tmp_path / f"apple_0{i}.png", i)
        write_image(tmp_path / f"pear_0{i}.png", 10 + i)
    found = {each.caption for each in propose(tmp_path, by_name, write=False)}
    assert found == {"apple", "pear"}
