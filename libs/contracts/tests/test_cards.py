"""Cards: a README without markers is an error that names it."""

from pathlib import Path

import pytest
from trimtab.contracts.generate.cards import cards
from trimtab.contracts.generate.source import read


def test_a_card_without_markers_is_refused(tmp_path: Path) -> None:
    card = tmp_path / "services/monitor/README.md"
    card.parent.mkdir(parents=True)
    card.write_text("# monitor\n")
    with pytest.raises(ValueError, match=r"monitor/README\.md: the document needs the lines <!-- topics: begin"):
        cards(tmp_path, read(Path(__file__).parents[3] / "schemas"))
