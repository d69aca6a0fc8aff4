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

from mmtune.adapters.adapter_rights import NOTICE, notice_of, require_export
from mmtune.adapters.adopt import find_foreign
from mmtune.adapters.card import CARD_FILE, Card, adapter_folder, read_card
from mmtune.adapters.export import check_licence
from mmtune.adapters.integrity import PEFT_CONFIG, adapter_files, check_adapter, content_hash
from mmtune.adapters.licence import Licence, licence_of
from mmtune.errors import AdapterError, ConfigError, MmtuneError, first_line
from mmtune.evaluation.verdict import AGAINST, VERDICT_FILE, read_verdict
from mmtune.modality import Modality
from mmtune.pages.redact import redact_base, redact_card_measures, redact_settings
from mmtune.runs.modalities import find_modality
from mmtune.system.base_name import is_hub_id
from mmtune.system.display import Displayed, Rows
from mmtune.system.files import copy_file, write_text
from mmtune.system.tensors import load_tensors, read_metadata, save_tensors

MIB = 2**20
# Settings that are texts and that the adapter's users need.
TEXTS = ("task.trigger", "task.language", "adapter.method")
PEFT_METADATA = "lora_adapter_metadata"  # of diffusers' files: a JSON object of PEFT's settings
BASE_PLACE = "base_model_name_or_path"
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
        AdapterError: there is no adapter, it is damaged, its licence restricts its use, or the
            rows behind it don't allow it.
    """
    if not is_hub_id(repository):
        raise ConfigError(
            f"{repository!r} can't be the name of a repository on the hub",
            "write OWNER/NAME, for example my-team/my-adapter",
        )
    folder = _own_adapter(run)
    check_adapter(folder)
    card = read_card(folder)
    require_export(card, folder, "pushed")
    _require_verdict(folder, anyway)
    named = base or card.base
    _require_base(named, folder, anyway)
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
        copy = _copy_weights if path.suffix == ".safetensors" else copy_file
        copy(path, to / path.name)
    config = to / PEFT_CONFIG
    if config.is_file():
        values = json.loads(config.read_text(encoding="utf-8"))
        values[BASE_PLACE] = base
        write_text(config, json.dumps(values, indent=2, sort_keys=True))
    hashes = {path.name: content_hash(path) for path in adapter_files(to)} if card.files else {}
    shared = without_content(card, modality).model_copy(update={"base": base, "files": hashes})
    shared.write(to, modality.usage(shared, repository))
    if notice := notice_of(shared):
        write_text(to / NOTICE, notice)


def without_content(card: Card, modality: Modality) -> Card:
    """Copy a card without what may tell of the data: texts of settings, labels, names of folders.

    The trigger phrase, the language and the method stay: the adapter is used with them.
    """
    sections = {n: v for n, v in card.settings.items() if isinstance(v, Mapping) and n != "data"}
    return card.model_copy(
        update={
            "settings": redact_settings(sections, keep=TEXTS, hidden=None),
            "measures": redact_card_measures(card.measures, modality),
            "rights": card.rights.shared() if card.rights is not None else None,
            "lineage": [each | {"base": redact_base(each["base"])} for each in card.lineage],
        }
    )


def _copy_weights(path: Path, to: Path) -> None:
    """Copy a safetensors file, without the place of the base that PEFT may have written into it."""
    metadata = read_metadata(path)
    said = json.loads(metadata.get(PEFT_METADATA, "{}"))
    places = [key for key in said if key.endswith(BASE_PLACE) and said[key] is not None]
    if not places:
        copy_file(path, to)
        return
    said |= dict.fromkeys(places)
    metadata[PEFT_METADATA] = json.dumps(said, indent=2, sort_keys=True)
    save_tensors(to, load_tensors(path), metadata)


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


def _require_base(base: str, folder: Path, anyway: bool) -> None:
    if base.startswith("starter:"):
        if not anyway:
            raise ConfigError(
                f"the base is {base}, which only mmtune has, so the adapter is of no use to others",
                "train on a base of the hub; or name one with the same weights with --base; or add "
                "--anyway",
            )
    elif not is_hub_id(base) or _is_here(base, folder):
        raise ConfigError(
            f"the base is {base}, a folder on this machine; {NEEDED}",
            "give the id of the same model on the hub: --base OWNER/NAME",
        )


def _is_here(base: str, adapter: Path) -> bool:
    """Whether a name like a hub id's is a folder, seen from here or from where the run was made."""
    return any((place / base).exists() for place in (Path(), *adapter.resolve().parents))


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
