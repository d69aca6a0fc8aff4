"""What `import mmtune` offers, and that it loads nothing heavy before it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mmtune

HEAVY = ("torch", "transformers", "diffusers", "pandas", "scipy")
NAMES = {
    *("check", "load_recipe", "train", "evaluate", "transcribe", "generate", "compose"),
    *("export", "report", "open_predictor", "Dataset", "RunConfig", "Comparison", "Verdict"),
    *("MmtuneError", "__version__", "verify", "repair", "import_data", "score", "list_runs"),
    "redact",
}


def loaded_after(code: str) -> set[str]:
    """Which of the heavy packages a fresh Python holds after running `code`."""
    ask = f"{code}\nimport sys\nprint('LOADED', *[n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("LOADED")[1].split())


def test_the_reader_of_loaded_modules_sees_a_heavy_one() -> None:
    assert loaded_after("import scipy") == {"scipy"}


@pytest.mark.parametrize(
    "code",
    [
        "import mmtune",
        "import mmtune; dir(mmtune); mmtune.MmtuneError; mmtune.RunConfig; mmtune.load_recipe",
        "from mmtune.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass",
        "from mmtune.cli import main\ntry:\n    main(['train', 'dialect', '--help'])\n"
        "except SystemExit:\n    pass",
    ],
    ids=["import", "names", "help", "help of a recipe"],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert loaded_after(code) == set()


def test_the_public_names() -> None:
    assert set(mmtune.__all__) == NAMES
    assert set(dir(mmtune)) >= NAMES
    for name in NAMES:
        assert getattr(mmtune, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        mmtune.nothing  # noqa: B018


def test_settings_are_typed_values(tmp_path: Path) -> None:
    settings = {"data": tmp_path, "epochs": 3, "lora": {"rank": 8}, "train.lr": 5e-4}
    config = mmtune.load_recipe("dialect", base="starter:whisper-tiny", **settings)
    assert (config.train.epochs, config.lora.rank, config.train.lr) == (3, 8, 5e-4)
    assert config.data.path == tmp_path
    by_name = mmtune.load_recipe("dialect", base="b", targets=["q_proj", "v_proj"])
    assert by_name.lora.targets == ("q_proj", "v_proj")
    assert mmtune.load_recipe("dialect", base="b", targets="q_proj,v_proj").lora.targets == (
        *("q_proj", "v_proj"),
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": "many"}, "epochs"),
        ({"epochs": 0}, "epochs"),
        ({"lora": 8}, "lora"),
        ({"lora": {"rnak": 8}}, "lora.rank"),
    ],
)
def test_a_wrong_value_is_an_error_of_mmtune(settings: dict[str, object], words: str) -> None:
    with pytest.raises(mmtune.MmtuneError) as caught:
        mmtune.load_recipe("dialect", base="b", **settings)
    assert words in str(caught.value)


def test_an_unknown_setting_gives_the_three_nearest() -> None:
    with pytest.raises(mmtune.MmtuneError) as caught:
        mmtune.load_recipe("dialect", base="b", warmpu=0.1)
    assert "train.warmup" in str(caught.value)
    with pytest.raises(mmtune.MmtuneError) as caught:
        mmtune.load_recipe("dialect", base="b", xyzzy=1)
    assert str(caught.value).count(",") <= 3  # three names, not all of them
