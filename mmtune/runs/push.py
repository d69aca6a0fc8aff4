"""Upload an adapter to the Hugging Face hub: weights, card and model card, and nothing of the data.

What leaves this machine is copied into a folder of its own first: the files of the adapter, a
card.json without texts of the settings and without names of users' labels, and a README.md that is
made of that card.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.adapters.adopt import find_foreign
from mmtune.adapters.card import CARD_FILE, Card, adapter_folder, read_card
from mmtune.adapters.export import check_licence
from mmtune.adapters.integrity import PEFT_CONFIG, adapter_files, check_adapter, content_hash
from mmtune.adapters.licence import Licence, licence_of
from mmtune.errors import AdapterError, ConfigError, MmtuneError, first_line
from mmtune.evaluation.verdict import AGAINST, VERDICT_FILE, read_verdict
from mmtune.modality import Modality
from mmtune.pages.redact import redact_card_measures
from mmtune.runs.modalities import find_modality
from mmtune.system.base_name import is_hub_id
from mmtune.system.display import Displayed, Rows
from mmtune.system.files import copy_file, write_text

MIB = 2**20
TEXTS = ("trigger", "language")  # of the section `task`, which the adapter's users need
NEEDED = "the adapter's users can't load it without its base"


@dataclass(frozen=True)
class Pushed(Displayed):
    """What was uploaded, or would be.

    Attributes:
        repository: its id on the hub.
        url: of the upload; empty: nothing was uploaded.
        files: names and sizes in bytes.
        private: whether a new repository is private.
        notes: messages for the user.
    """

    repository: str
    url: str
    files: Mapping[str, int]
    private: bool
    notes: tuple[str, ...] = ()

    def shown(self) -> Iterable[str | Rows]:
        """Show the files with their sizes, the notes, and the address."""
        rows = [("file", "MiB"), *((n, f"{size / MIB:.2f}") for n, size in self.files.items())]
        seen = "private" if self.private else "public"
        end = f"uploaded {self.url}" if self.url else f"nothing was uploaded to {self.repository}"
        return [rows, *(f"note: {note}" for note in self.notes), f"{end} ({seen})"]


def push(
    run: Path,
    repository: str,
    *,
    base: str | None = None,
    private: bool = True,
    anyway: bool = False,
    dry: bool = False,
    accept: str = "",
) -> Pushed:
    """Upload the adapter of a run to the hub, or say what would be uploaded.

    Args:
        run: a run folder, or an adapter folder with a card.
        repository: "owner/name" on the hub.
        base: the base's id on the hub; None: the card names it.
        private: make a new repository private; an existing one must then be private.
        anyway: also if the verdict is against the adapter, or its base is a starter.
        dry: upload nothing, and ask nobody.
        accept: the name of a restrictive licence of the base that the user accepts.

    Raises:
        ConfigError: the verdict is against the adapter, the base isn't on the hub, there is no
            token, or the repository can't be used.
        AdapterError: there is no adapter, it is damaged, or its licence restricts its use.
    """
    if not is_hub_id(repository):
        raise ConfigError(
            f"{repository!r} can't be the name of a repository on the hub",
            "write OWNER/NAME, for example my-team/my-adapter",
        )
    folder = _own_adapter(run)
    check_adapter(folder)
    card = read_card(folder)
    _require_verdict(folder, anyway)
    named = base or card.base
    _require_base(named, anyway)
    stated = Licence(card.base_licence) if card.base_licence else None
    licence = stated if dry else licence_of(named) or stated  # the hub is asked for its card
    notes = check_licence(licence, named, accept)
    with tempfile.TemporaryDirectory() as scratch:
        staged = Path(scratch) / "adapter"
        staged.mkdir()
        stage(folder, card, named, repository, staged)
        files = {path.name: path.stat().st_size for path in sorted(staged.iterdir())}
        url = "" if dry else _upload(staged, repository, private)
    return Pushed(repository, url, files, private, tuple(notes))


def stage(folder: Path, card: Card, base: str, repository: str, to: Path) -> None:
    """Write what may leave this machine into an empty folder.

    Args:
        folder: the adapter's.
        card: its card.
        base: as others name it.
        repository: the adapter's id on the hub, for the code in the README.md.
        to: the empty folder.
    """
    modality = find_modality(card.modality)
    for path in adapter_files(folder):
        copy_file(path, to / path.name)
    config = to / PEFT_CONFIG
    if config.is_file():
        values = json.loads(config.read_text(encoding="utf-8"))
        values["base_model_name_or_path"] = base
        write_text(config, json.dumps(values, indent=2, sort_keys=True))
    hashes = {path.name: content_hash(path) for path in adapter_files(to)} if card.files else {}
    shared = without_content(card, modality).model_copy(update={"base": base, "files": hashes})
    shared.write(to, modality.usage(shared, repository))


def without_content(card: Card, modality: Modality) -> Card:
    """Copy a card without what may tell of the data: texts of settings, labels, names of folders.

    The trigger phrase and the language stay, because the adapter is used with them.
    """

    def cleared(values: Mapping[str, Any], keep: Iterable[str] = ()) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in values.items():
            if isinstance(value, Mapping):
                found[name] = cleared(value)
            elif name in keep or value is None or isinstance(value, bool | int | float):
                found[name] = value
        return found

    sections = {n: v for n, v in card.settings.items() if isinstance(v, Mapping) and n != "data"}
    settings = {n: cleared(v, TEXTS if n == "task" else ()) for n, v in sections.items()}
    measures = redact_card_measures(card.measures, modality)
    return card.model_copy(update={"settings": settings, "measures": measures})


def _own_adapter(run: Path) -> Path:
    if run.exists() and find_foreign(run) is not None:
        raise AdapterError(
            f"{run} is an adapter of another program; push uploads mmtune's adapters alone, "
            f"because its model card is made of their {CARD_FILE}",
            f"give a run folder (runs/NAME); or upload it as it is: hf upload OWNER/NAME {run}",
        )
    return adapter_folder(run)


def _require_verdict(folder: Path, anyway: bool) -> None:
    run = folder.parent
    if anyway or not (run / VERDICT_FILE).is_file():
        return
    verdict = read_verdict(run)
    if verdict is not None and verdict.decision in AGAINST:
        raise ConfigError(
            f"the verdict on {run} is {verdict.decision!r}: {verdict.summary}",
            "don't upload it; or add --anyway, and the model card shows its figures",
        )


def _require_base(base: str, anyway: bool) -> None:
    if base.startswith("starter:"):
        if not anyway:
            raise ConfigError(
                f"the base is {base}, which only mmtune has, so the adapter is of no use to others",
                "train on a base of the hub; or name one with the same weights with --base; or add "
                "--anyway",
            )
    elif not is_hub_id(base) or Path(base).expanduser().exists():
        raise ConfigError(
            f"the base is {base}, a folder on this machine; {NEEDED}",
            "give the id of the same model on the hub: --base OWNER/NAME",
        )


def _upload(folder: Path, repository: str, private: bool) -> str:
    """Upload a folder, and return the address of the commit."""
    import huggingface_hub as hub

    token = hub.get_token()
    if token is None:
        raise ConfigError(
            "no token of the Hugging Face hub is on this machine",
            "run `hf auth login`, or set HF_TOKEN to a token that may write "
            "(huggingface.co/settings/tokens)",
        )
    api = hub.HfApi(token=token)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise ConfigError(
                f"{repository} exists and is public",
                "add --public if everybody may have the adapter, or choose another name",
            )
        done = api.upload_folder(
            folder_path=str(folder),
            repo_id=repository,
            commit_message="Adapter by mmtune",
        )
    except MmtuneError:
        raise
    except Exception as error:  # the hub's client raises errors of its own and of its transport
        raise _explained(error, repository) from error
    return str(getattr(done, "commit_url", done))


def _explained(error: Exception, repository: str) -> MmtuneError:
    from huggingface_hub.errors import OfflineModeIsEnabled

    owner = repository.partition("/")[0]
    if isinstance(error, OfflineModeIsEnabled):
        return ConfigError(
            "HF_HUB_OFFLINE is set, so the hub can't be asked", "unset it, and repeat the command"
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return ConfigError(
            "the hub refused the token (401)",
            "make a new one at huggingface.co/settings/tokens, and run `hf auth login`",
        )
    if status == 403:
        return ConfigError(
            f"the hub doesn't let this token write to {repository} (403)",
            f"use a token that may write, of a member of {owner}; or another owner's name",
        )
    if status == 404:
        return ConfigError(
            f"the hub has no {repository}, or no owner {owner} (404)",
            "correct OWNER/NAME; the owner is your user name or an organisation of yours",
        )
    if status is not None:
        return AdapterError(
            f"the hub answered {status}: {first_line(error)}", "repeat the command later"
        )
    return AdapterError(
        f"the upload to {repository} failed: {type(error).__name__}: {first_line(error)}",
        "check the network connection, and repeat the command",
    )
