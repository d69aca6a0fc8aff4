"""Findings of a transcript's own text: tags and characters that nobody speaks."""

from __future__ import annotations

import pytest

from mmtune.speech.corpus.check_transcript import check_text
from mmtune.speech.speech_row import SpeechRow


def kinds(text: str) -> list[str]:
    row = SpeechRow(id="a", audio="a.wav", text=text)
    return [finding.kind for finding in check_text(row, 3.0)]


@pytest.mark.parametrize(
    "text",
    [
        "AND THEN <COMMA> HE LEFT <PERIOD>",
        "so <sil> we go",
        "it is <unk> here",
        "<B_ASIDE> yes </B_ASIDE> now",
        "wait [NOISE] for me",
        "please hold <music> the line",
    ],
)
def test_tags_of_corpora_are_found(text: str) -> None:
    assert kinds(text) == ["tags"]


@pytest.mark.parametrize(
    "text", ["a < b and c > d", "take 5 mg [as needed]", "he said <3 to her", ""]
)
def test_other_brackets_are_none(text: str) -> None:
    assert kinds(text) == []


@pytest.mark.parametrize("hidden", ["\u200b", "\u00ad", "\ufeff", "\u2060", "\u200e"])
def test_invisible_characters_are_named(hidden: str) -> None:
    row = SpeechRow(id="a", audio="a.wav", text=f"hello{hidden} there world")
    (finding,) = check_text(row, 3.0)
    assert finding.kind == "invisible"
    assert finding.severity == "warning"


def test_a_joiner_that_spells_is_no_finding() -> None:
    assert kinds("می\u200cخواهم بروم") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Agent: Good morning. Customer: My printer is broken.", "Agent and Customer"),
        ("Speaker 1: yes\nSpeaker 2: no\nSpeaker 1: well", "Speaker 1 and Speaker 2"),
        ("Doctor: Take this twice a day.", "name 'Doctor'"),
    ],
)
def test_names_of_speakers_are_found(text: str, found: str) -> None:
    row = SpeechRow(id="a", audio="a.wav", text=text)
    (finding,) = check_text(row, 5.0)
    assert (finding.kind, finding.severity) == ("speaker-names", "warning")
    assert found in finding.message
    assert ("tells two voices apart" in finding.message) == (" and " in found)


@pytest.mark.parametrize(
    "text", ["The agent: a spy", "Remember: call us", "At 10:30 the guest left"]
)
def test_other_colons_are_none(text: str) -> None:
    assert kinds(text) == []
