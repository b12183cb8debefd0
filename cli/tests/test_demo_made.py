"""What the demo's report says of an event, from the contracts' own examples."""

from pathlib import Path

import pytest
from trimtab.cli.demo.made import why_held
from trimtab.contracts.control import QualityViolated

EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples" / "quality.violated"


@pytest.mark.parametrize(
    ("example", "said"),
    [("missing", "missing of {0}: {1:.1%}, limit {2:.1%}"), ("silent", "{0} has fallen silent: {1:.1%} of the")],
)
def test_a_hold_says_which_share_it_means(example: str, said: str) -> None:
    event = QualityViolated.model_validate_json((EXAMPLES / f"{example}.json").read_text())
    assert why_held(event).startswith(said.format(event.subject, event.share, event.limit))
