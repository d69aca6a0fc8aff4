"""What the rows behind an adapter allow: compared with the policy and the day on every use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmtune.adapters.card import CARD_FILE, Card, read_card
from mmtune.config import read_yaml
from mmtune.data.policy import (
    POLICY_FILE,
    Policy,
    current_day,
    is_among,
    policy_beside,
    read_policy,
    refusal_counts,
)
from mmtune.data.row_rights import ATTRIBUTION, licence_id
from mmtune.errors import AdapterError
from mmtune.system.display import numbered
from mmtune.system.moved import places_of
from mmtune.system.run_folder import CONFIG_FILE

NOTICE = "NOTICE.txt"


def policy_file(
    run: Path, named: Path | None, data: Path | None, out: Path, name: str
) -> Path | None:
    """The file of the policy that holds for a run: as the team has it now, else the run's copy.

    Args:
        run: the run folder as it is now.
        named: the setting `data.policy`.
        data: the manifest or folder of the run's data.
        out, name: the run's settings.

    Returns:
        None if there is no policy; `named` if that is missing and there is no copy.
    """
    if named is not None:
        found = (place for place in places_of(named, out, name, run) if place.is_file())
    else:
        places = places_of(data, out, name, run) if data is not None else iter(())
        beside = (policy_beside(place) for place in places if place.exists())
        found = (place for place in beside if place is not None)
    if (first := next(found, None)) is not None:
        return first
    copy = run / POLICY_FILE
    return copy if copy.is_file() else named


def policy_of_run(run: Path | None, card: Card | None) -> Policy:
    """The policy that holds for a run or an adapter: the team's file, the run's copy, the card's.

    Args:
        run: a run folder, or a folder of results; None: the adapter has none here.
        card: the adapter's; None: it has none.

    Raises:
        ConfigError: the policy is wrong.
    """
    if run is not None and (run / CONFIG_FILE).is_file():
        values = read_yaml(run / CONFIG_FILE)
        data = values.get("data")
        paths = data if isinstance(data, Mapping) else {}
        named, source = (
            Path(each) if isinstance(each := paths.get(key), str) else None
            for key in ("policy", "path")
        )
        out, name = Path(str(values.get("out") or "runs")), str(values.get("name") or run.name)
        path = policy_file(run, named, source, out, name)
        if path is not None and path.is_file():
            return read_policy(path)
    if card is not None and card.rights is not None and card.rights.policy:
        return card.rights.kept_policy
    return Policy()


def policy_of_adapter(folder: Path, card: Card) -> Policy:
    """`policy_of_run` for an adapter folder, which may lie in its run.

    Raises:
        ConfigError: the policy is wrong.
    """
    return policy_of_run(folder.parent if folder.name == "adapter" else None, card)


def ended_note(card: Card, name: str) -> str:
    """Say that consents behind an adapter have ended; "" if none has."""
    rights, today = card.rights, current_day()
    if rights is None or not (count := rights.ended(today)):
        return ""
    total = numbered(rights.rows, "row")
    rows = f"all {total}" if count == rights.rows > 1 else f"{count:,} of the {total}"
    return (
        f"the consent for {rows} behind {name} has ended, the first on {rights.earliest_end}; "
        "mmtune check names the rows of the data, and a new run trains without them"
    )


def notes_on_use(adapters: Mapping[Path, Card]) -> list[str]:
    """Say of adapters that are about to be used whose consents have ended.

    Args:
        adapters: adapter folders, with their cards.

    Raises:
        AdapterError: a consent has ended, and the policy refuses the use then.
    """
    notes = []
    for folder, card in adapters.items():
        note = ended_note(card, str(folder))
        if not note:
            continue
        policy = policy_of_adapter(folder, card)
        if policy.ended == "refuse":
            by = f" ({policy.place or 'the policy in its card'})"
            raise AdapterError(
                f"{note.partition(';')[0]}, and the policy refuses its use then{by}",
                "train a new adapter without these rows, or use the base model alone",
            )
        notes.append(note)
    return notes


def require_export(card: Card, folder: Path, what: str = "exported") -> None:
    """Refuse to export an adapter whose rows don't all allow it.

    Args:
        card: the adapter's.
        folder: where it is.
        what: is to be done with it, for the error.

    Raises:
        AdapterError: rows don't allow it.
        ConfigError: the policy is wrong.
    """
    if card.rights is None:
        return
    policy = policy_of_adapter(folder, card)
    found = card.rights.refusals("export", policy, current_day())
    if not found:
        return
    counts = refusal_counts(found)
    by = f" by {policy.place}" if policy.place else ""
    raise AdapterError(
        f"{folder} may not be {what}: of the {numbered(card.rights.rows, 'row')} behind it these "
        f"don't allow it"
        f"{by}: {counts}",
        "if consents were renewed, write that into the rows and run mmtune evaluate RUN; otherwise "
        "make the policy's rule for train as strict as that for export, and start a new run",
    )


def licences_of(card: Card) -> dict[str, str]:
    """The licences of base and data and the sources to be named, for an export's metadata."""
    facts = {"base_licence": card.base_licence}
    if card.rights is not None:
        facts["data_licences"] = card.rights.licence_counts()
        credits = (f"{each.source} ({each.licence})" for each in card.rights.credits)
        facts["attribution"] = "; ".join(credits)
    return {f"mmtune.{name}": value for name, value in facts.items() if value}


def licences_beside(folder: Path) -> dict[str, str]:
    """`licences_of` an adapter folder's card; nothing if it has no card."""
    return licences_of(read_card(folder)) if (folder / CARD_FILE).is_file() else {}


def notice_of(card: Card, base_licence: str = "") -> str:
    """The text of NOTICE.txt for an adapter; "" if no licence of base or data asks for attribution.

    Args:
        card: the adapter's.
        base_licence: of the base, where it is known better than in the card.
    """
    licence = base_licence or card.base_licence
    text = card.rights.notice() if card.rights is not None else ""
    if licence and is_among(licence_id(licence), ATTRIBUTION):
        text += f"{chr(10) if text else ''}Its base model is {card.base} ({licence}).\n"
    return text
