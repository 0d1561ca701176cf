"""Every rule that checkov skips has a documented reason."""

import re

import yaml

from deploy.programs import ROOT

_TEXT = (ROOT / ".checkov.yaml").read_text()
_REASON = re.compile(r"^  # (?P<reason>.+)\n  - (?P<rule>CKV\w+)$", re.MULTILINE)
_SHORTEST_REASON_WORDS = 8


def test_every_skipped_rule_has_a_reason_above_it() -> None:
    skipped = yaml.safe_load(_TEXT)["skip-check"]

    reasons = {found["rule"]: found["reason"] for found in _REASON.finditer(_TEXT)}

    assert sorted(reasons) == sorted(skipped)
    assert [rule for rule, reason in reasons.items() if len(reason.split()) < _SHORTEST_REASON_WORDS] == []


def test_whole_frameworks_and_files_are_not_skipped() -> None:
    assert set(yaml.safe_load(_TEXT)) == {"compact", "quiet", "skip-download", "skip-check"}
