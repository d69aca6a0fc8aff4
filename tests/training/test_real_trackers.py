"""Real trackers, read back with their own readers.

TensorBoard is tested always. W&B (offline), MLflow and trackio are large: `make test-trackers`
installs them, and without them their tests are skipped.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtune.data.rows import Row
from mmtune.training.interrupt import Interrupted
from mmtune.training.loop import fit
from mmtune.training.reporter import Reporter
from mmtune.training.samples import Sample
from tests.training.test_loop import Notes, options
from tests.training.toy import ToyTask, rows

SETTINGS = {"lora": {"rank": 4, "targets": ("q", "v")}, "max_steps": None, "cache": True}
RATE = 16_000


class Shown(ToyTask):
    """A task with a text, a picture and a sound for each validation."""

    def samples(self, *, sounds: bool) -> Sequence[Sample]:
        picture = np.full((8, 8, 3), 200, np.uint8)
        sound = np.sin(np.arange(RATE // 10) / 8).astype(np.float32) if sounds else None
        return [Sample("held-0", "said | meant", f"heard {self.validations}", picture, sound, RATE)]


def run(tmp_path: Path, name: str, **given: object) -> list[str]:
    notes = Notes()
    held: Sequence[Row] = rows(5, "held")
    chosen = options(tracker=name, **given)
    fit(Shown(), rows(21), held, chosen, tmp_path / "first-try", notes, SETTINGS)
    return [note for note in notes.notes if "tracker" in note]


def tensorboard_events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "trackers/mmtune"), size_guidance={"audio": 0})
    return found.Reload()


def test_tensorboard_gets_settings_values_and_samples(tmp_path: Path) -> None:
    assert run(tmp_path, "tensorboard") == []
    found = tensorboard_events(tmp_path / "first-try")
    assert [event.step for event in found.Scalars("loss")] == list(range(1, 10))
    assert [event.step for event in found.Scalars("validation/error")] == [0, 3, 6, 9]
    log = (tmp_path / "first-try/log.jsonl").read_text().splitlines()
    losses = [entry["loss"] for entry in map(json.loads, log) if "loss" in entry]
    assert [event.value for event in found.Scalars("loss")] == pytest.approx(losses)
    assert [event.step for event in found.Images("samples/held-0")] == [0, 3, 6, 9]
    first = found.Images("samples/held-0")[0]
    assert (first.width, first.height) == (8, 8)
    [sound] = found.Audio("samples/held-0")
    assert (sound.step, sound.sample_rate, sound.length_frames) == (0, RATE, RATE // 10)
    texts = [
        event.tensor_proto.string_val[0].decode() for event in found.Tensors("samples/text_summary")
    ]
    assert [text.splitlines()[-1] for text in texts] == [
        f"| held-0 | said \\| meant | heard {n} |" for n in range(1, 5)
    ]
    import yaml

    [stored] = (tmp_path / "first-try/trackers").rglob("hparams.yml")
    wanted = {"lora.rank": 4, "lora.targets": "q,v", "max_steps": "null", "cache": True}
    assert yaml.safe_load(stored.read_text()) == wanted


def test_samples_stay_here_where_the_setting_says_so(tmp_path: Path) -> None:
    assert run(tmp_path, "tensorboard", tracker_samples=False) == []
    tags = tensorboard_events(tmp_path / "first-try").Tags()
    assert tags["images"] == tags["audio"] == tags["tensors"] == []


def test_steps_that_a_resumed_run_repeats_are_there_once(tmp_path: Path) -> None:
    class Stops(Reporter):
        def step(self, step: int, total: int, loss: float, lr: float) -> None:
            if step == 5:  # after the checkpoint of step 4
                raise Interrupted(15, step)

    with pytest.raises(Interrupted):
        fit(Shown(), rows(21), [], options(tracker="tensorboard"), tmp_path / "first-try", Stops())
    assert run(tmp_path, "tensorboard") == []
    scalars = tensorboard_events(tmp_path / "first-try").Scalars("loss")
    assert [event.step for event in scalars] == list(range(1, 10))


def leveldb_records(data: bytes, skipped: int) -> Iterator[bytes]:
    """The records of W&B's file: LevelDB's log format (doc/log_format.md there).

    Args:
        skipped: bytes of the file's own head, which count towards its first block.
    """
    at, whole = 0, b""
    while at + 7 <= len(data):
        left = 32_768 - (at + skipped) % 32_768
        if left < 7:  # the rest of a block is filled with zeros
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:  # a whole record, or the last part of one
            yield whole
            whole = b""


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert run(tmp_path, "wandb") == []
    from wandb.proto import wandb_internal_pb2

    [path] = tmp_path.rglob("*.wandb")
    records: list[Any] = []
    until = time.monotonic() + 30
    # W&B's own process writes the file, and may still write when the run is finished.
    while not any(record.HasField("exit") for record in records) and time.monotonic() < until:
        time.sleep(0.2)
        data = leveldb_records(path.read_bytes()[7:], skipped=7)
        records = [wandb_internal_pb2.Record.FromString(each) for each in data]
    lines = [
        (record.history.step.num, {item.key or ".".join(item.nested_key) for item in items})
        for record in records
        if (items := record.history.item)
    ]
    assert [step for step, names in lines if "loss" in names] == list(range(1, 10))
    assert [step for step, names in lines if "validation/error" in names] == [0, 3, 6, 9]
    assert "first-try" in {record.run.display_name for record in records}
    kinds = {each.suffix for each in tmp_path.rglob("media/**/*") if each.is_file()}
    assert {".png", ".wav", ".json"} <= kinds


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # mlflow-skinny has no database
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    monkeypatch.chdir(tmp_path)
    assert run(tmp_path, "mlflow") == []
    client = mlflow.MlflowClient()
    [experiment] = [each for each in client.search_experiments() if each.name == "mmtune"]
    [found] = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("first-try", "FINISHED")
    assert found.data.params["lora.rank"] == "4"
    steps = [each.step for each in client.get_metric_history(found.info.run_id, "loss")]
    assert steps == list(range(1, 10))
    names = [each.path for each in client.list_artifacts(found.info.run_id, "samples")]
    assert "samples/step-0000009-0.png" in names
    assert "samples/step-0000009.md" in names


def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    assert run(tmp_path, "trackio") == []
    from trackio.sqlite_storage import SQLiteStorage

    lines = SQLiteStorage.get_logs("mmtune", "first-try")
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 10))
    shown = [line for line in lines if "samples/text" in line]
    assert [line["step"] for line in shown] == [0, 3, 6, 9]
    assert "samples/picture-0" in shown[0]
    assert "samples/sound-0" in shown[0]
