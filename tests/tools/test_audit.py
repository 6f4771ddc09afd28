"""The report of `make audit` on pip-audit's answer."""

from comfyhost.audit import NOT_AUDITED, tell

GOOD = {"name": "good", "version": "1", "vulns": []}
WEAK = {"name": "weak", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "unknown", "skip_reason": "Dependency not found on PyPI"}


def test_nothing_known_of_any_package_is_no_clean_audit(capsys):
    assert tell([SKIPPED]) == NOT_AUDITED
    assert "nothing was audited" in "".join(capsys.readouterr())


def test_a_weakness_fails_and_names_the_version_that_is_good(capsys):
    assert tell([GOOD, WEAK, SKIPPED]) == 1
    said = "".join(capsys.readouterr())
    assert "weak 2: PYSEC-1, fixed in 3" in said and "2 of 3 packages audited" in said and "unknown" in said


def test_a_clean_audit_succeeds():
    assert tell([GOOD, SKIPPED]) == 0
