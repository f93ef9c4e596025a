"""Make the sdist and the wheel, and prove them: what ``make dist`` runs.

They are built from what git tracks, so no stray file gets in. Both must hold every file of the package, and
``twine check --strict`` must find nothing. Then the wheel goes into a new environment, which sees the dependencies of
this one and has no network, and ``idm reconstruct`` must recover a photograph there.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 50_000_000  # of one file; PyPI takes 100 MB
# A start-up file of the new environment: whatever connects to anything but this machine fails.
NO_NETWORK = """\
import socket
def _refuse(self, address, _connect=socket.socket.connect):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
        raise OSError(f"offline: {address} was asked for")
    return _connect(self, address)
socket.socket.connect = _refuse
"""


class DistError(Exception):
    """What was built cannot be released; the message says why."""


def tracked() -> list[str]:
    """Return the files that git tracks and that are there, relative to the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file())


def run(command: list[str], **options: object) -> str:
    """Run a command; return what it printed.

    Raises:
        DistError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        raise DistError(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def build(out: Path) -> tuple[Path, Path]:
    """Build into the empty folder ``out``; return the sdist and the wheel, which is made from the sdist."""
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in tracked():
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), folder])
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    run([sys.executable, "-m", "twine", "check", "--strict", str(sdist), str(wheel)])
    return sdist, wheel


def contents(file: Path) -> set[str]:
    """Return the names in an sdist, without its top folder, or in a wheel."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            return set(archive.namelist())
    with tarfile.open(file) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


def check_contents(file: Path, package: set[str]) -> None:
    """Refuse a file that lacks a part of the package, is too large, or (a wheel) brings what is not the package's.

    Args:
        package: the tracked files below ``idm_lib/``, relative to the root.

    Raises:
        DistError: it is refused.
    """
    inside = contents(file)
    if package - inside:
        raise DistError(f"{file.name} lacks {', '.join(sorted(package - inside))}")
    strange = {n for n in inside - package if ".dist-info/" not in n} if file.suffix == ".whl" else set()
    if strange:
        raise DistError(f"{file.name} should hold idm_lib alone; it has {', '.join(sorted(strange))}")
    if file.stat().st_size > MAX_BYTES:
        raise DistError(f"{file.name} has {file.stat().st_size:,} bytes; {MAX_BYTES:,} at most")


def install(wheel: Path, folder: Path) -> Path:
    """Install the wheel alone into a new environment that sees this one's packages; return its ``bin``."""
    run([sys.executable, "-m", "venv", str(folder)])
    bin = folder / "bin"
    run([str(bin / "python"), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel)])
    site = Path(run([str(bin / "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
    ours = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "_no_network.py").write_text(NO_NETWORK, encoding="utf-8")
    (site / "dependencies.pth").write_text("\n".join(["import _no_network", *ours]) + "\n", encoding="utf-8")
    return bin


def try_out(bin: Path, folder: Path) -> str:
    """Recover a photograph with the installed command; return what it says of it.

    Raises:
        DistError: another copy of the package answered, or the photograph was not recovered.
    """
    from skimage import data, io

    io.imsave(folder / "photo.png", data.camera()[::2, ::2])
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    options = {"cwd": folder, "env": clean}
    where = run([str(bin / "python"), "-c", "import idm_lib; print(idm_lib.__file__)"], **options).strip()
    if not Path(where).is_relative_to(bin.parent):
        raise DistError(f"the new environment should import its own idm_lib; it took {where}")
    command = [str(bin / "idm"), "reconstruct", "photo.png", "--ratio", "0.1", "--out", "out", "--json"]
    report = json.loads(run(command, **options))[0]
    simple = json.loads(run([*command, "--method", "pinv"], **options))[0]
    if report["psnr"] < simple["psnr"] + 3:
        raise DistError(f"the model reached {report['psnr']} dB; the pseudo-inverse alone {simple['psnr']} dB")
    return f"idm reconstruct, offline: {report['psnr']:.2f} dB at a tenth in {report['seconds']:.1f} s"


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder, emptied first (default: dist)")
    out = parser.parse_args(argv).out
    package = {n for n in tracked() if n.startswith("idm_lib/") and not n.endswith("ruff.toml")}
    try:
        for file in build(out):
            check_contents(file, package)
            print(f"{file}  {file.stat().st_size / 1e6:.1f} MB, {len(contents(file))} files")
        with tempfile.TemporaryDirectory() as folder:
            print(try_out(install(next(out.glob("*.whl")), Path(folder, "environment")), Path(folder)))
    except DistError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
