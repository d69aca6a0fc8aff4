"""Only `mmtune.system.files` writes files; each other call that can write is here with a reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "mmtune"
ATTRIBUTES = {
    "write_text", "write_bytes", "save", "save_file", "serialize_file", "savez", "savetxt",
    "save_pretrained", "save_lora_weights", "convert", "copyfile", "copytree", "copy2", "move",
    "to_parquet", "to_csv", "tofile", "memmap", "touch", "hardlink_to", "symlink_to",
}  # fmt: skip
NAMES = {"save_file"}
MODULES = {"soundfile": {"write"}, "json": {"dump"}, "yaml": {"dump", "safe_dump"}}
IN_MEMORY = "it writes to a buffer in memory"
ASIDE = "a library writes into a folder or file that mmtune.system.files gave it and renames"
RENAMED = "a library writes into a temporary folder, which is then renamed"
SCRATCH = "it is a folder of temporary files, deleted at the end"
LOCK = "a lock or a pin: the file is empty or advisory, and nothing reads it after a crash"

# Module and call, and why the call needn't go through `files`.
REASONS: dict[tuple[str, str], str] = {
    ("evaluation/answers.py", "image.save"): IN_MEMORY,
    ("image/__init__.py", "open_image(…).save"): IN_MEMORY,
    ("image/api.py", "preview.save"): IN_MEMORY,
    ("image/pictures/encode.py", "image.save"): IN_MEMORY,
    ("pages/content.py", "image.save"): IN_MEMORY,
    ("speech/__init__.py", "soundfile.write"): IN_MEMORY,
    ("speech/sound/augment.py", "soundfile.write"): IN_MEMORY,
    ("speech/corpus/importers/cells.py", "soundfile.write"): IN_MEMORY,
    ("speech/sound/encode.py", "soundfile.write"): IN_MEMORY,
    ("cli/__init__.py", "os.open"): "it opens /dev/null",
    ("speech/sound/sndfile.py", "os.open"): "it opens /dev/null",
    ("settings/yaml_text.py", "yaml.dump"): "it returns text",
    ("training/checkpoint.py", "torch.save"): ASIDE,
    ("runs/train_on_data.py", "task.save"): ASIDE,
    ("runs/saved_adapter.py", "task.save"): ASIDE,
    ("speech/speech_task.py", "self.model.save_pretrained"): ASIDE,
    ("speech/whisper/merge_adapters.py", "switch.model.save_pretrained"): ASIDE,
    ("speech/whisper/starter.py", "config.save_pretrained"): RENAMED,
    ("speech/whisper/starter.py", "GenerationConfig(…).save_pretrained"): RENAMED,
    ("speech/whisper/starter.py", "WhisperFeatureExtractor(…).save_pretrained"): RENAMED,
    ("speech/whisper/starter.py", "tokenizer.save_pretrained"): RENAMED,
    ("image/diffusion/denoiser_lora.py", "pipeline.save_lora_weights"): ASIDE,
    ("image/export/merged_pipeline.py", "pipeline.save_pretrained"): ASIDE,
    ("image/export/kohya.py", "type(…).save_lora_weights"): ASIDE,
    ("speech/export/to_ctranslate2.py", "TransformersConverter(…).convert"): ASIDE,
    ("speech/export/to_transformers.py", "model.save_pretrained"): ASIDE,
    ("speech/export/to_transformers.py", "base.feature_extractor.save_pretrained"): ASIDE,
    ("speech/export/to_transformers.py", "WhisperProcessor(…).save_pretrained"): ASIDE,
    ("speech/export/to_transformers.py", "base.tokenizer.backend_tokenizer.model.save"): ASIDE,
    ("speech/export/whisper_cpp.py", "np.savez"): ASIDE,
    ("speech/corpus/voices.py", "shutil.copytree"): SCRATCH,
    ("speech/corpus/voices.py", "short.symlink_to"): SCRATCH,
    ("prefix/cache.py", "partial.write_bytes"): "entries have a checksum, and names of their own",
    ("prefix/cache.py", "path.open"): LOCK,
    ("system/locks.py", "os.open"): LOCK,
    ("system/portable.py", "os.open"): "it waits until a written file is on the disk",
    ("system/tensors.py", "path.open"): "it sorts metadata in a file that is still written aside",
}


def test_each_call_that_may_write_has_a_reason() -> None:
    unknown = [
        f"mmtune/{module}:{line}: {call} writes a file: use mmtune.system.files"
        for module, call, line in writers(PACKAGE)
        if (module, call) not in REASONS
    ]
    assert unknown == []


def test_each_reason_has_its_call() -> None:
    assert REASONS.keys() == {(module, call) for module, call, _ in writers(PACKAGE)}


@pytest.mark.parametrize(
    "code",
    [
        "path.write_text('a')",
        "(folder / 'a').write_bytes(b'a')",
        "path.open('w')",
        "path.open(mode='ab')",
        "open('a', 'r+')",
        "open('a', mode=mode)",
        "torch.save({}, path)",
        "np.savez(path, a=1)",
        "soundfile.write(path, samples, rate)",
        "save_file({}, path)",
        "os.open(path, os.O_WRONLY | os.O_CREAT)",
        "shutil.copyfile(a, b)",
        "image.save(path)",
    ],
)
def test_a_planted_writer_is_found(code: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f"def f(path):\n    {code}\n")
    assert [line for _, _, line in writers(tmp_path)] == [2]


@pytest.mark.parametrize(
    "code", ["path.open('rb')", "open('a')", "Image.open(path)", "text.replace('a', 'b')"]
)
def test_a_reader_is_none(code: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f"{code}\n")
    assert list(writers(tmp_path)) == []


def writers(root: Path) -> Iterator[tuple[str, str, int]]:
    """The calls below `root` that may write a file: module, call, line."""
    for path in sorted(root.rglob("*.py")):
        module = path.relative_to(root).as_posix()
        if module == "system/files.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _writes(node):
                yield module, _spelled(node.func), node.lineno


def _writes(call: ast.Call) -> bool:
    function = call.func
    if isinstance(function, ast.Name):
        return function.id in NAMES or (function.id == "open" and _opens_to_write(call, 1))
    if not isinstance(function, ast.Attribute):
        return False
    owner, name = function.value, function.attr
    if isinstance(owner, ast.Name):
        if name in MODULES.get(owner.id, ()):
            return True
        if owner.id == "os" and name == "open":
            return any(
                isinstance(each, ast.Attribute) and each.attr in {"O_WRONLY", "O_RDWR", "O_CREAT"}
                for each in ast.walk(call)
            )
        if owner.id in {"Image", "av", "image"} and name == "open":
            return False
        if owner.id in {"image", "str"} and name == "convert":
            return False
    if name == "open":
        return _opens_to_write(call, 0)
    if name == "convert":  # Pillow's has one word; a converter gets a folder
        return bool(call.keywords) and isinstance(owner, ast.Call)
    return name in ATTRIBUTES


def _opens_to_write(call: ast.Call, place: int) -> bool:
    named = [each.value for each in call.keywords if each.arg == "mode"]
    mode = named[0] if named else call.args[place] if len(call.args) > place else None
    if mode is None:
        return False
    if not isinstance(mode, ast.Constant):
        return bool(named) or place == 1  # a mode that nobody can read here
    return isinstance(mode.value, str) and bool(set(mode.value) & set("wax+"))


def _spelled(function: ast.expr) -> str:
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute):
        inner = function.value
        left = _spelled(inner) if isinstance(inner, ast.Name | ast.Attribute | ast.Call) else "(…)"
        return f"{left}.{function.attr}"
    if isinstance(function, ast.Call):
        return f"{_spelled(function.func)}(…)"
    return "(…)"
