"""The README: its measured table comes from the result files, and every file it links to exists."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_measured_table_is_generated_from_the_result_files():
    done = subprocess.run([sys.executable, str(ROOT / "bench/readme_results.py"), "--check"], check=False)
    assert done.returncode == 0, "run: python3 bench/readme_results.py"


def test_every_link_leads_to_a_file():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("data/*.md")]:
        links = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
        missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
        assert not missing, f"{document.name} links to {missing}"
