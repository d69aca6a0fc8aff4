"""The head of an adapter's README.md as a model card of the Hugging Face hub, and how to load it.

The hub reads the YAML header (https://huggingface.co/docs/hub/model-cards). It refuses a
`base_model` that can't be the name of a model on it, and a `license` that isn't in its list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmtune.system.base_name import found_from_anywhere, is_hub_id

# https://huggingface.co/docs/hub/repositories-licenses, November 2026, without families of names
# that need a link.
_LICENCES = (
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 "
    "bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause "
    "bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 "
    "cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 "
    "cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 "
    "cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 "
    "eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research "
    "intel-research lppl-1.3c ms-pl mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql "
    "ofl-1.1 ncsa unlicense zlib pddl gemma llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 "
    "grok2-community apple-ascl apple-amlr deepfloyd-if-license "
    "fair-noncommercial-research-license tii-falcon-llm unknown other"
)
LICENCES = set(_LICENCES.split())
HERE = "."  # the adapter's folder in the code of its own README.md


@dataclass(frozen=True)
class Usage:
    """How other programs use a modality's adapters.

    Attributes:
        package: that loads the folder, by the hub's name for it.
        task: the hub's name for what the model does.
        code: Python that loads the base and the adapter and answers once.
        tags: for the hub's search.
        language: of what the adapter understands, by its ISO 639-1 code; empty: any.
        adapter: the adapter's folder or hub id in the code.
    """

    package: str
    task: str
    code: str
    tags: tuple[str, ...] = ()
    language: str = ""
    adapter: str = HERE


def header(
    name: str,
    base: str,
    licence: str,
    usage: Usage | None,
    measures: Sequence[Mapping[str, Any]],
    method: str = "lora",
) -> str:
    """Make the YAML header of a model card, with the lines of dashes around it.

    Args:
        name: of the adapter.
        base: its base model; named only if it may be on the hub.
        licence: of the base; empty: unknown.
        usage: None: no library is named.
        measures: of a card; the adapter's own values of those that aren't of one group of items.
        method: by which it was trained, a tag of the hub.
    """
    from huggingface_hub import EvalResult, ModelCardData

    found = [m for m in measures if not m.get("group") and _is_number(m["adapter"]["value"])]
    results = [
        EvalResult(
            task_type=usage.task if usage is not None else "other",
            dataset_type="private",
            dataset_name=str(measure["slice"]),
            dataset_split=str(measure["slice"]),  # the hub joins results of one type and split
            metric_type=_metric_id(str(measure["metric"])),
            metric_name=str(measure["metric"]),
            metric_value=round(float(measure["adapter"]["value"]), 4),
        )
        for measure in found
    ]
    facts = ModelCardData(
        base_model=base if is_hub_id(found_from_anywhere(base)) else None,
        library_name=usage.package if usage is not None else None,
        pipeline_tag=usage.task if usage is not None else None,
        language=(usage.language or None) if usage is not None else None,
        license=(licence if licence in LICENCES else "other") if licence else None,
        license_name=licence if licence and licence not in LICENCES else None,
        tags=[method, "mmtune", *(usage.tags if usage is not None else ())],
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return f"---\n{facts.to_yaml()}\n---\n"


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _metric_id(metric: str) -> str:
    """The hub's style of names of metrics: WER is `wer`."""
    return re.sub(r"[^a-z0-9]+", "_", metric.lower()).strip("_")


def how_to_load(usage: Usage) -> list[str]:
    """The section of a model card that loads the adapter; it says where the code is to be run."""
    where = ["Run this in the folder of this README.md:", ""] if usage.adapter == HERE else []
    return ["", "## Use", "", *where, "```python", *usage.code.strip().splitlines(), "```"]
