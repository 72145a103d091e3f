"""`make deb`: build/outlast_*.deb and build/outlast-manager_*.deb from this checkout.

Rules:
1. The Python packages are those of requirements/*.lock, by their hashes, in a private place
   (/usr/lib/outlast) that no other program sees and no distribution upgrade changes.
2. Two packages: `outlast` is all that a host needs; `outlast-manager` adds what only the management
   server uses. Not one file is in both.
3. The same commit gives the same files: times are those of the commit, nothing is compiled here but
   libvirt-python; byte code is made where the package is installed.
4. Nothing is written outside of build/.

Needs uv (or .venv-tools, which scripts/setup.sh makes), dpkg-deb, and what setup.sh installs.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "build" / "deb"
PYTHON = "/usr/bin/python3"
HOME = "usr/lib/outlast"
SOURCE_HOME = "/opt/outlast"  # in the units, for those who install without a package
UNITS = {
    "outlast": ("outlast-guard", "outlast-pulse", "outlast-agent", "outlast-farewell"),
    "outlast-manager": ("outlast-manager",),
}
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
LAUNCHER = f"#!/{HOME}/bin/python -I\nfrom outlast.cli.main import run\n\nraise SystemExit(run())\n"
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/outlast",
    "zsh": "usr/share/zsh/vendor-completions/_outlast",
    "fish": "usr/share/fish/vendor_completions.d/outlast.fish",
}
WARNED = "usr/share/lintian/overrides"


def run(*argv: str, cwd: Path = ROOT, **env: str) -> str:
    done = subprocess.run(
        argv, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def put(tree: Path, name: str, text: str | bytes, mode: int = 0o644) -> Path:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def version() -> tuple[str, int]:
    """The packages' version and the time of the commit. A build between releases sorts before."""
    released = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    if not (ROOT / ".git").exists():
        return str(released), int((ROOT / "pyproject.toml").stat().st_mtime)
    stamp = int(run("git", "log", "-1", "--format=%ct"))
    if f"v{released}" in run("git", "tag", "--points-at", "HEAD").split():
        return str(released), stamp
    day = run("git", "log", "-1", "--date=format:%Y%m%d%H%M%S", "--format=%cd")
    return f"{released}~{day}.g{run('git', 'rev-parse', '--short=8', 'HEAD')}", stamp


def blocks(lock: str) -> dict[str, str]:
    """Package -> its lines in a lock file."""
    text = (ROOT / "requirements" / lock).read_text()
    parts = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    return {part.split("==")[0]: part for part in parts if "==" in part}


def install_python(tree: Path, wanted: dict[str, str]) -> Path:
    """The locked packages, below the private home; where they are."""
    uv = shutil.which("uv") or str(ROOT / ".venv-tools/bin/uv")
    lock = put(WORK, f"{tree.name}.lock", "".join(wanted.values()))
    minor = run(PYTHON, "-c", "import sys; print('python%d.%d' % sys.version_info[:2])")
    site = tree / HOME / "lib" / minor / "site-packages"
    run(
        uv, "pip", "install", "-q", "--python", PYTHON, "--target", str(site), "--no-deps",
        "--require-hashes", "--link-mode", "copy", "-r", str(lock),
        "--build-constraints", "requirements/build.lock",
        UV_PYTHON_DOWNLOADS="never", UV_NO_PROGRESS="1",
    )  # fmt: skip
    shutil.rmtree(site / "bin", ignore_errors=True)  # programs of others: nobody here calls them
    for found in [*site.rglob("__pycache__"), *site.rglob("tests")]:
        shutil.rmtree(found, ignore_errors=True)
    for name in (".lock", "direct_url.json"):
        for path in site.rglob(name):
            path.unlink()
    for path in site.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if path.suffix == ".so":
            run("strip", "--strip-unneeded", str(path))
        elif path.suffix == ".py" and path.read_bytes().startswith(b"#!"):
            path.write_bytes(path.read_bytes().split(b"\n", 1)[1])  # a module, not a program
    return site


def host_tree(tree: Path) -> None:
    """All that a host needs."""
    site = install_python(tree, blocks("run.lock"))
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src/outlast", site / "outlast", ignore=ignore)
    binaries = tree / HOME / "bin"
    binaries.mkdir()
    for name in ("python", "python3"):
        (binaries / name).symlink_to(PYTHON)
    minor = site.parent.name.removeprefix("python")
    put(tree, f"{HOME}/pyvenv.cfg",
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {minor}\n")  # fmt: skip
    put(tree, f"{HOME}/bin/outlast", LAUNCHER, 0o755)
    (tree / "usr/bin").mkdir()
    (tree / "usr/bin/outlast").symlink_to("../lib/outlast/bin/outlast")
    words = {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    page = run(PYTHON, str(HERE / "manpage.py"), **words)
    put(tree, "usr/share/man/man1/outlast.1.gz", gzip.compress(page.encode(), 9, mtime=0))
    for shell, name in COMPLETIONS.items():
        script = run(PYTHON, str(HERE / "manpage.py"), "--completion", shell, **words)
        put(tree, name, script + "\n")


def manager_tree(tree: Path) -> None:
    """What the management server needs on top."""
    known = blocks("run.lock")
    extra = {name: text for name, text in blocks("manager.lock").items() if name not in known}
    install_python(tree, extra)
    roles = tree / "usr/share/ansible/roles"
    shutil.copytree(ROOT / "packaging/ansible/roles", roles)  # Ansible looks there by itself


def common(tree: Path, name: str, made: str, stamp: int) -> None:
    """Units, scripts, documents and the control file."""
    for unit in UNITS[name]:
        text = (ROOT / "packaging/systemd" / f"{unit}.service").read_text()
        put(tree, f"lib/systemd/system/{unit}.service", text.replace(SOURCE_HOME, f"/{HOME}"))
    place = f"usr/share/doc/{name}"
    put(tree, f"{place}/copyright", (HERE / "copyright").read_text())
    day = run("date", "-u", "-R", "-d", f"@{stamp}")
    entry = (
        f"{name} ({made}) stable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- {OWNER}  {day}\n"
    )
    put(tree, f"{place}/changelog.gz", gzip.compress(entry.encode(), 9, mtime=0))
    news = (ROOT / "CHANGELOG.md").read_bytes()
    put(tree, f"{place}/CHANGELOG.md.gz", gzip.compress(news, 9, mtime=0))
    if name == "outlast":
        docs = tree / place / "docs"
        shutil.copytree(ROOT / "docs", docs, ignore=shutil.ignore_patterns("decisions"))
        for path in docs.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
    put(tree, f"{WARNED}/{name}", (HERE / f"{name}.lintian-overrides").read_text())
    control = (HERE / f"{name}.control").read_text()
    size = sum(p.stat().st_size for p in tree.rglob("*") if p.is_file()) // 1024
    python = run(PYTHON, "-c", "import sys; print('%d.%d %d' % (*sys.version_info[:2], "
                 "sys.version_info[1] + 1))").split()  # fmt: skip
    values = {
        "VERSION": made, "SIZE": str(size), "ARCH": run("dpkg", "--print-architecture"),
        "PYTHON": python[0], "NEXT_PYTHON": f"3.{python[1]}", "OWNER": OWNER,
        "LIBVIRT": run("pkg-config", "--modversion", "libvirt"),
    }  # fmt: skip
    put(tree, "DEBIAN/control", re.sub(r"@([A-Z_]+)@", lambda m: values[m[1]], control))
    for script in SCRIPTS:
        if (HERE / f"{name}.{script}").exists():
            put(tree, f"DEBIAN/{script}", (HERE / f"{name}.{script}").read_text(), 0o755)
    sums = [
        f"{hashlib.md5(p.read_bytes()).hexdigest()}  {p.relative_to(tree)}"
        for p in sorted(tree.rglob("*"))
        if p.is_file() and not p.is_symlink() and "DEBIAN" not in p.parts
    ]
    put(tree, "DEBIAN/md5sums", "\n".join(sums) + "\n")


OWNER = "The Outlast contributors <outlast@pool.example>"


def main(only: str = "", compress: str = "xz") -> int:
    """only: one of the two packages; compress: what dpkg-deb knows, for those in a hurry."""
    os.umask(0o022)
    shutil.rmtree(WORK, ignore_errors=True)
    made, stamp = version()
    built = []
    for name, fill in (("outlast", host_tree), ("outlast-manager", manager_tree)):
        if only not in {"", name}:
            continue
        tree = WORK / name
        tree.mkdir(parents=True)
        fill(tree)
        common(tree, name, made, stamp)
        for path in [tree, *tree.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        arch = run("dpkg", "--print-architecture")
        target = ROOT / "build" / f"{name}_{made}_{arch}.deb"
        for old in target.parent.glob(f"{name}_*.deb"):
            old.unlink()
        run(
            "dpkg-deb", "--root-owner-group", f"-Z{compress}", "-z3", "--build", str(tree),
            str(target), SOURCE_DATE_EPOCH=str(stamp),
        )  # fmt: skip
        built.append(target)
    shutil.rmtree(WORK)
    for target in built:
        print(target.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
