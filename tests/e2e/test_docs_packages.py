"""The commands of docs/graphs.md and docs/tools.md that install a package and check its assistant.

They run in a folder like a checkout after `make setup`. Its environment sees the packages of this one, and gets those
that the commands install.
"""

import asyncio
import site
import sys
import venv
from pathlib import Path

import pytest
from support.doc_blocks import ROOT, block


@pytest.fixture
async def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "scripts", "requirements", "proto", "services", "examples", ".mesh"):
        (tmp_path / name).symlink_to(ROOT / name)
    await asyncio.to_thread(venv.create, tmp_path / ".venv", with_pip=False, symlinks=True)
    [packages] = (tmp_path / ".venv" / "lib").glob("python*/site-packages")
    # `addsitedir` also reads the .pth files by which the packages of this repository are installed.
    outer = site.getsitepackages([sys.prefix])[0]
    (packages / "outer.pth").write_text(f"import site; site.addsitedir({outer!r})\n")
    (tmp_path / ".venv" / ".stamp-dev").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("page", "blocks", "printed"),
    [
        ("graphs.md", ("graphs-install", "graphs-check"), "research: research.yaml, version "),
        ("tools.md", ("tools-install",), "shop: shop.yaml, version "),
    ],
)
async def test_package_is_installed_and_its_assistant_is_valid(
    checkout: Path, page: str, blocks: tuple[str, ...], printed: str
) -> None:
    script = "set -e\n" + "".join(block(ROOT / "docs" / page, name) for name in blocks)

    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, cwd=checkout, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(120):
        output = (await process.communicate())[0].decode()

    assert process.returncode == 0, output
    assert printed in output
