"""Find and load a base: a frozen Whisper model, identified by a hash of its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmtune.errors import BaseModelError
from mmtune.metrics.text.language_code import language_code
from mmtune.speech.whisper.starter import PREFIX, STARTERS, require_starter, starter_folder
from mmtune.system.base_files import pickled_in, weight_variant
from mmtune.system.base_name import is_checkpoint, is_hub_id
from mmtune.system.hashing import hash_file, hash_json
from mmtune.system.pointers import require_content
from mmtune.system.stored import read_json_object
from mmtune.system.tensors import require_finite

# Files that a folder needs, each under one of its names; transformers 5 saves the settings of the
# spectrogram inside processor_config.json. A hub repository may also hold other frameworks.
NEEDED = {
    "config.json": ("config.json",),
    "generation_config.json": ("generation_config.json",),
    "preprocessor_config.json": ("preprocessor_config.json", "processor_config.json"),
    "tokenizer": ("tokenizer.json", "vocab.json"),
}
WANTED = ("*.json", "merges.txt", "model*.safetensors")
UNWANTED = ("*fp32*",)  # whisper-large-v3 carries its weights twice
WEIGHTS = ("model",)  # the name of the weights' files, before a variant and their suffix


@dataclass
class WhisperBase:
    """A loaded base model.

    Attributes:
        name: the base as the user named it.
        model: transformers' WhisperForConditionalGeneration, in eval mode, all weights frozen.
        tokenizer: WhisperTokenizer.
        feature_extractor: WhisperFeatureExtractor.
        fingerprint: hash of the weights' files; the precision of loading doesn't change it.
        ids: ids of the special tokens that decoding needs, by name.
        multilingual: whether the decoder's prefix names a language and a task.
    """

    name: str
    model: Any
    tokenizer: Any
    feature_extractor: Any
    fingerprint: str
    multilingual: bool
    ids: dict[str, int] = field(default_factory=dict)

    def text_of(self, ids: Sequence[int]) -> str:
        """Decode ids to text, without special tokens and timestamps."""
        words = [i for i in ids if i <= self.ids["notimestamps"]]
        return str(self.tokenizer.decode(words, skip_special_tokens=True)).strip()

    def language_id(self, language: str) -> int:
        """Return the token of a language, by its name, code or tag: "en", "English", "en-GB".

        A base before large-v3 has no Cantonese: it gets the token of Chinese.

        Raises:
            BaseModelError: the base doesn't know the language.
        """
        known: dict[str, int] = self.model.generation_config.lang_to_id
        code = language_code(language) or language
        token = f"<|{code}|>"
        if token not in known and code == "yue":
            token = "<|zh|>"
        if token not in known:
            codes = ", ".join(sorted(each.strip("<|>") for each in known))
            raise BaseModelError(
                f"{self.name} doesn't know the language {language!r}", f"use one of {codes}"
            )
        return known[token]


def resolve_base(base: str) -> Path:
    """Return the folder of a base; a hub id is downloaded.

    Args:
        base: "starter:NAME", a folder in transformers' format, or a hub id (openai/whisper-small).

    Raises:
        BaseModelError: the base is not found, unreachable or incomplete; names what is missing.
    """
    if base.startswith(PREFIX):
        return starter_folder(base)
    return _local_folder(base) or _complete(_from_hub(base), base)


def require_base(base: str) -> None:
    """Refuse a base that can't be found, without loading or downloading its weights.

    Args:
        base: as for `resolve_base`. Of a hub id that isn't on this machine, config.json is fetched.

    Raises:
        BaseModelError, MissingExtra: see `resolve_base`.
    """
    if base.startswith(PREFIX):
        require_starter(base)
    elif _local_folder(base) is None:
        _from_hub(base, weights=False)


def _local_folder(base: str) -> Path | None:
    """The folder of a base on this machine; None: it is a hub id.

    Raises:
        BaseModelError: it is neither, or the folder is incomplete.
    """
    path = Path(base).expanduser()
    if path.is_dir():
        return _complete(path, base)
    if is_checkpoint(base):
        raise BaseModelError(
            f"base {base!r} is a file; a Whisper model is a folder of weights, config.json and "
            "tokenizer",
            f"give the folder, as transformers writes it, or {_cure().removeprefix('use ')}",
        )
    if not is_hub_id(base):
        raise BaseModelError(f"base {base!r} is neither a folder nor a hub id", _cure())
    return None


def _cure() -> str:
    names = " or ".join(PREFIX + name for name in STARTERS)
    return f"use a folder, a hub id such as openai/whisper-small, or {names} (needs no hub)"


def _complete(folder: Path, base: str) -> Path:
    for path in sorted(folder.glob("*")):
        require_content(path, BaseModelError)
    missing = [
        name
        for name, files in NEEDED.items()
        if not any((folder / file).exists() for file in files)
    ]
    if not any(folder.glob("*.safetensors")):
        if pickled := pickled_in(folder):
            raise BaseModelError(
                f"base {base!r}: {pickled} is pickled, which can run code when it is read, and "
                f"{folder} holds no .safetensors file",
                "get the model as safetensors; or, where you trust it, load the folder with "
                "transformers and save it again: WhisperForConditionalGeneration"
                ".from_pretrained(FOLDER).save_pretrained(OTHER)",
            )
        missing.append("model.safetensors")
    if missing:
        raise BaseModelError(
            f"base {base!r}: {folder} lacks {', '.join(missing)}",
            f"copy what is missing from the model that it was trained from; or {_cure()}",
        )
    return folder


def _from_hub(base: str, weights: bool = True) -> Path:
    """The folder of a hub id on this machine; without `weights`, that of its config.json alone."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    patterns: dict[str, Any] = {
        "allow_patterns": list(WANTED),
        "ignore_patterns": list(UNWANTED),
    }
    try:
        # Look for a local copy first: an unreachable hub would cost minutes.
        folder = Path(snapshot_download(base, local_files_only=True, **patterns))
        return _complete(folder, base)
    except (LocalEntryNotFoundError, BaseModelError):
        pass
    _reach(base)
    try:
        config = hf_hub_download(base, "config.json", etag_timeout=5)
        if not weights:
            return Path(config).parent
        return Path(snapshot_download(base, etag_timeout=5, **patterns))
    except RepositoryNotFoundError:
        raise BaseModelError(f"the hub has no model {base!r} (or it is private)", _cure()) from None
    except EntryNotFoundError as error:
        raise BaseModelError(f"base {base!r}: config.json is missing: {error}", _cure()) from None
    except Exception as error:
        raise _unreachable(base, error) from None


def _reach(base: str) -> None:
    # The hub's client retries for minutes, so one short request checks whether the hub is
    # reachable. An HTTP error is also an answer.
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    url = f"{constants.ENDPOINT}/{base}/resolve/main/config.json"
    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        request = urllib.request.Request(url, method="HEAD")
        urllib.request.urlopen(request, timeout=5).close()
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError) as error:
        raise _unreachable(base, error) from None


def _unreachable(base: str, error: Exception) -> BaseModelError:
    detail = (str(error).strip() or type(error).__name__).splitlines()[0]
    return BaseModelError(
        f"base {base!r}: config.json isn't on this machine, and the hub can't be reached: {detail}",
        _cure(),
    )


def load_base(base: str, device: Any = "cpu", dtype: Any = None) -> WhisperBase:
    """Load a base for training or transcription.

    Args:
        base: as for `resolve_base`.
        device: torch device for the weights.
        dtype: torch dtype of the weights; None is float32.

    Raises:
        BaseModelError: the base is not found, not a Whisper model, or damaged, or has weights that
            aren't finite.
    """

    import torch
    from transformers import (
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    folder = resolve_base(base)
    kind = read_json_object(folder / "config.json", _cure(), BaseModelError).get("model_type")
    if kind != "whisper":
        raise BaseModelError(f"base {base!r} is a {kind!r} model, not whisper", _cure())
    try:
        with _without_bars():
            model = WhisperForConditionalGeneration.from_pretrained(
                folder,
                dtype=dtype or torch.float32,
                local_files_only=True,
                use_safetensors=True,
                variant=weight_variant([folder], WEIGHTS),
            )
        tokenizer = WhisperTokenizer.from_pretrained(folder, local_files_only=True)
        extractor = WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
    except (
        Exception
    ) as error:  # a damaged file raises anything: safetensors', tokenizers' own types
        raise BaseModelError(f"base {base!r} in {folder} can't be read: {error}", _cure()) from None
    require_finite(
        model.state_dict(),
        f"base {base!r} in {folder}",
        BaseModelError,
        "copy or download it again",
    )
    model.to(device).eval().requires_grad_(False)
    generation = model.generation_config
    return WhisperBase(
        name=base,
        model=model,
        tokenizer=tokenizer,
        feature_extractor=extractor,
        fingerprint=hash_json({f.name: hash_file(f) for f in folder.glob("*.safetensors")}),
        multilingual=bool(getattr(generation, "is_multilingual", False)),
        ids=_special_ids(tokenizer, generation, base),
    )


def load_for(base: str, precision: str = "auto") -> WhisperBase:
    """Load a base on this process's device, in a precision of `mmtune.system.precision`."""
    from mmtune.system.precision import DTYPES, choose_precision
    from mmtune.system.processes import this_process

    device = this_process().device
    return load_base(base, device, DTYPES[choose_precision(precision, device)])


@contextmanager
def _without_bars() -> Iterator[None]:
    # transformers draws a progress bar for each load, over the text in the terminal.
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _special_ids(tokenizer: Any, generation: Any, base: str) -> dict[str, int]:
    names: Sequence[str] = (
        "<|startoftranscript|>",
        "<|endoftext|>",
        "<|notimestamps|>",
        "<|startofprev|>",
        "<|transcribe|>",
        "<|translate|>",
    )
    ids = {name.strip("<|>"): tokenizer.convert_tokens_to_ids(name) for name in names}
    wrong = [name for name, value in ids.items() if value is None]
    if wrong or ids["startoftranscript"] != generation.decoder_start_token_id:
        raise BaseModelError(
            f"base {base!r}: tokenizer and generation_config.json don't match "
            f"({', '.join(wrong) or 'startoftranscript'})",
            "use the tokenizer and generation_config.json that came with the weights",
        )
    return ids
