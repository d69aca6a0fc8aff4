"""Each parser with its corpus: files of a folder in, a value or an `MmtuneError` out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.fuzz import own_files, settings_files, user_files
from tests.fuzz.corpus import Files


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        name: of the parser.
        modules: files whose branches the fuzzing must reach, below mmtune/.
        seeds: valid folders.
        call: parses a folder, which holds the files of a mutated seed.
        share: weight when inputs are shared among the targets.
        linked: whether words beside other files may not be read through a link (a file that the
            user names may be a link).
    """

    name: str
    modules: tuple[str, ...]
    seeds: Callable[[], Sequence[Files]]
    call: Callable[[Path], object]
    share: float = 1.0
    linked: bool = False


IMPORT = "speech/corpus/importers"
# After a colon: the functions that parse, where a module does more than that.
TARGETS: dict[str, Target] = {
    each.name: each
    for each in (
        Target(
            "manifest",
            ("data/manifest.py",),
            user_files.manifest_seeds,
            user_files.parse_manifest,
            2,
            True,
        ),
        Target(
            "table",
            tuple(
                f"{IMPORT}/{name}.py"
                for name in (
                    "table",
                    "cells",
                    "columns",
                    "places",
                    "delimited",
                    "json_rows",
                    "piece",
                )
            ),
            user_files.table_seeds,
            user_files.parse_imported,
            2,
        ),
        Target("kaldi", (f"{IMPORT}/kaldi.py",), user_files.kaldi_seeds, user_files.parse_imported),
        Target(
            "subtitles",
            (f"{IMPORT}/subtitles.py", f"{IMPORT}/captions.py", f"{IMPORT}/cues.py"),
            user_files.subtitle_seeds,
            user_files.parse_imported,
            2,
            True,
        ),
        Target(
            "transcripts",
            (
                f"{IMPORT}/transcripts.py:_text",
                f"{IMPORT}/alignment.py:place,stretches,_breaks,_chunks",
            ),
            user_files.transcript_seeds,
            user_files.parse_alignment,
            linked=True,
        ),
        Target(
            "parquet",
            (f"{IMPORT}/parquet.py:read_parquet,_rows", f"{IMPORT}/huggingface.py:parquet_in"),
            user_files.parquet_seeds,
            user_files.parse_imported,
            0.1,
        ),
        Target(
            "image folder",
            (
                "image/corpus/folders.py",
                "image/corpus/caption_sources.py",
                "image/corpus/caption_metadata.py",
                "image/corpus/caption_files.py",
            ),
            user_files.folder_seeds,
            user_files.parse_folder,
            2,
            True,
        ),
        Target(
            "term list",
            ("speech/corpus/term_list.py", "metrics/text/term_finder.py"),
            settings_files.terms_seeds,
            settings_files.parse_terms,
        ),
        Target(
            "recipe",
            ("config.py:read_yaml", "runs/recipes.py", "runs/build.py", "settings/reading.py"),
            settings_files.recipe_seeds,
            settings_files.parse_recipe,
            0.5,
        ),
        Target(
            "suite",
            ("evaluation/suite.py",),
            settings_files.suite_seeds,
            settings_files.parse_suite,
            0.5,
        ),
        Target(
            "brand guide",
            ("image/brand/brand_guide.py",),
            settings_files.guide_seeds,
            settings_files.parse_guide,
            0.5,
        ),
        Target(
            "route",
            ("adapters/routing.py:read_route_file,read_route,is_route,Route.of_label",),
            settings_files.route_seeds,
            settings_files.parse_route,
            0.5,
        ),
        Target(
            "run folder",
            (
                "adapters/card.py:read_card",
                "evaluation/comparison.py",
                "training/log.py:read_log",
                "evaluation/verdict.py:read_verdict,Verdict.from_json",
                "evaluation/answers.py:_read_answers",
                "pages/preference.py:read_review",
            ),
            own_files.run_seeds,
            own_files.parse_run,
            2,
        ),
        Target(
            "pages",
            ("pages/review.py:_candidates,_predictions,read_model",),
            own_files.page_seeds,
            own_files.parse_page,
            0.5,
        ),
        Target(
            "safetensors",
            (
                "prefix/cache.py:PrefixCache.get,PrefixCache.ls,PrefixCache.verify,_header,_read",
                "training/kept_weights.py:read_snapshots",
                "speech/whisper/decoder_lora.py:adapted_from",
            ),
            own_files.tensor_seeds,
            own_files.parse_tensors,
            2,
        ),
        Target(
            "checkpoint",
            ("training/checkpoint.py:load_checkpoint,newest,step_folders",),
            own_files.checkpoint_seeds,
            own_files.parse_checkpoint,
            0.5,
        ),
        Target(
            "sound",
            ("speech/sound/read.py", "speech/sound/sndfile.py", "speech/sound/pyav.py"),
            own_files.sound_seeds,
            own_files.parse_sound,
            2,
        ),
        Target(
            "picture",
            ("image/pictures/pixels.py",),
            own_files.picture_seeds,
            own_files.parse_picture,
            2,
        ),
    )
}


@cache
def seeds_of(name: str) -> tuple[Files, ...]:
    """The corpus of a target, made once."""
    return tuple(TARGETS[name].seeds())
