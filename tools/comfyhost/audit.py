"""Look for known weaknesses of the packages that requirements.txt brings: pip-audit over what pip resolves it to.

pip-audit has a virtual environment of its own, in the cache folder. It asks pypi.org/pypi/PACKAGE/VERSION/json.
torch and what comes with it are ComfyUI's; the newest that fits is audited in their place.
"""

import json
import subprocess
import sys

from comfyhost.environments import Environment
from comfyhost.install import clean_environment, say
from comfyhost.places import REPO_ROOT, TOOLS

PIP_AUDIT = Environment("audit", TOOLS / "requirements-audit.txt")
NOT_AUDITED = 2


def main() -> int:
    """Return 0 for nothing known, 1 for weaknesses or a failed audit; NOT_AUDITED where the service knew no package."""
    options = ["--vulnerability-service", "pypi", "--progress-spinner", "off", "--format", "json"]
    command = [PIP_AUDIT.set_up(), "-m", "pip_audit", *options, "--requirement", REPO_ROOT / "requirements.txt"]
    asked = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    if not asked.stdout.strip():
        say(f"error: pip-audit failed, so nothing was audited:\n{asked.stderr[-2000:]}")
        return 1
    return tell(json.loads(asked.stdout)["dependencies"])


def tell(packages: list[dict]) -> int:
    """Say what is known of the packages, as pip-audit lists them. pip-audit itself calls skipped ones no weakness."""
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    weak = [package for package in packages if package.get("vulns")]
    for package in weak:
        for known in package["vulns"]:
            fixed = ", ".join(known["fix_versions"]) or "no version"
            say(f"{package['name']} {package['version']}: {known['id']}, fixed in {fixed}")
    say(f"{len(packages) - len(skipped)} of {len(packages)} packages audited, {len(weak)} with known weaknesses.")
    if skipped:
        say(f"The service knows nothing of: {', '.join(skipped)}")
    if len(skipped) == len(packages):
        say("error: PyPI's vulnerability service cannot be reached from here, so nothing was audited.")
        return NOT_AUDITED
    return 1 if weak else 0


if __name__ == "__main__":
    sys.exit(main())
