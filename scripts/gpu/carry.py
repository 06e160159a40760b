"""The folder that brings the stack to a GPU machine without a network.

    python scripts/gpu_smoke.py pack FOLDER          where there is a network, and `uv`: this project's environment
    python scripts/gpu_smoke.py --carry FOLDER       on the GPU machine, Python 3.12 with torch, transformers and peft

    site.tar.gz    OpenRLHF, DeepSpeed and what they import that such a machine lacks, in the locked versions
    flash.tar.gz   flash-attn's sources, cut to one head dimension and bf16: 6 files to compile instead of 72

Ray and vLLM are too large to carry; a training process imports them without using them (stand_ins.py).
"""

import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

from openrlhf_prefix import pins
from openrlhf_prefix.errors import UserError

ROOT = Path(__file__).parents[2]
PYTHON, TAGS, LIMIT = "3.12", "x86_64-manylinux_2_28", 64  # MiB, of all that is carried
SITE, FLASH = "site.tar.gz", "flash.tar.gz"
WANTED = [
    "openrlhf",
    "deepspeed",
    "hjson",
    "pydantic",
    "pydantic-core",
    "annotated-types",
    "typing-inspection",
    "datasets",
    "multiprocess",
    "dill",
    "pylatexenc",
    "torchdata",
]
KERNELS = re.compile(r"flash_(fwd|bwd|fwd_split)_hdim128_bf16_(causal_)?sm80\.cu")
INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple")
SWITCHES = """
#undef FP16_SWITCH
#define FP16_SWITCH(COND, ...) [&] { using elem_type = cutlass::bfloat16_t; return __VA_ARGS__(); }()
#undef HEADDIM_SWITCH
#define HEADDIM_SWITCH(HEADDIM, ...) [&] { constexpr static int kHeadDim = 128; return __VA_ARGS__(); }()
"""
SETUP = '''"""flash-attn cut to head dimension 128 in bf16, for the architectures in TORCH_CUDA_ARCH_LIST."""
from pathlib import Path
from setuptools import find_packages, setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

here = Path(__file__).parent.resolve()
source = here / "csrc" / "flash_attn"
left_out = [f"-DFLASHATTENTION_DISABLE_{part}" for part in ("ALIBI", "SOFTCAP", "DROPOUT", "LOCAL")]
of_nvcc = "-U__CUDA_NO_HALF_OPERATORS__ -U__CUDA_NO_HALF_CONVERSIONS__ -U__CUDA_NO_HALF2_OPERATORS__ "
of_nvcc += "-U__CUDA_NO_BFLOAT16_CONVERSIONS__ --expt-relaxed-constexpr --expt-extended-lambda --use_fast_math"
extension = CUDAExtension(
    "flash_attn_2_cuda",
    [str(path) for path in (source / "flash_api.cpp", *sorted((source / "src").glob("*.cu")))],
    include_dirs=[str(path) for path in (source, source / "src", here / "csrc" / "cutlass" / "include")],
    extra_compile_args={"cxx": ["-O3", "-std=c++17", *left_out],
                        "nvcc": ["-O3", "-std=c++17", *of_nvcc.split(), *left_out]},
)
setup(name="flash-attn", version="VERSION", packages=find_packages(include=["flash_attn*"]),
      ext_modules=[extension], cmdclass={"build_ext": BuildExtension})
'''


def pack(folder: Path) -> None:
    """Makes the folder. Raises UserError where it would be too large to carry."""
    folder.mkdir(parents=True, exist_ok=True)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        raise UserError("there is no uv here to fetch packages with: use the Python of bash scripts/setup.sh")
    with tempfile.TemporaryDirectory() as temporary:
        site = Path(temporary, "site")
        install = [uv, "pip", "install", "--quiet", "--target", str(site), "--no-deps", "--python", sys.executable]
        install += ["--python-version", PYTHON, "--python-platform", TAGS, *locked()]
        if subprocess.run(install, env=os.environ | {"DS_BUILD_OPS": "0"}).returncode:
            raise UserError("the packages could not be fetched: the lines above say why")
        with tarfile.open(folder / SITE, "w:gz") as archive:
            archive.add(site, "site")
    cut(sdist(f"flash_attn-{pins.FLASH_ATTN}.tar.gz"), folder / FLASH)
    for name in (SITE, FLASH):
        print(f"{folder / name}: {(folder / name).stat().st_size / 2**20:.1f} MiB")
    if (size := sum((folder / name).stat().st_size for name in (SITE, FLASH)) / 2**20) > LIMIT:
        raise UserError(f"{folder} has {size:.0f} MiB, more than the {LIMIT} that are carried: WANTED has grown")


def locked() -> list[str]:
    """WANTED in the versions of the GPU stack's lock."""
    lines = (ROOT / "scripts" / "locks" / f"gpu-py{PYTHON}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.partition("==")[0] in WANTED]


def sdist(name: str) -> bytes:
    """A source archive from the package index."""
    page = f"{INDEX.rstrip('/')}/{name.partition('-')[0].replace('_', '-')}/"
    link = re.search(rf'href="([^"#]*{re.escape(name)})', _fetched(page).decode())
    if not link:
        raise UserError(f"{page} has no {name}: set PIP_INDEX_URL to an index that has it")
    return _fetched(urllib.parse.urljoin(page, link[1]))


def _fetched(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return answer.read()
    except OSError as error:
        raise UserError(f"{address} does not answer ({error}): set PIP_INDEX_URL to an index that does") from None


def cut(whole: bytes, out: Path) -> None:
    """flash-attn's source archive, without the kernels that are not compiled and with a setup.py that knows it."""
    kept = 0
    with tarfile.open(fileobj=io.BytesIO(whole)) as source, tarfile.open(out, "w:gz") as archive:
        for member in source.getmembers():
            path = Path(*Path(member.name).parts[1:])
            if not member.isfile() or not _needed(path):
                continue
            content = source.extractfile(member).read()
            if path.name == "static_switch.h":
                content += SWITCHES.encode()
            kept += path.suffix == ".cu"
            _add(archive, f"flash/{path}", content)
        _add(archive, "flash/setup.py", SETUP.replace("VERSION", pins.FLASH_ATTN).encode())
    if kept != 6:
        raise UserError(f"flash-attn {pins.FLASH_ATTN} has {kept} kernels of head dimension 128 in bf16, not 6")


def _needed(path: Path) -> bool:
    kernels = path.match("csrc/flash_attn/src/*.cu")
    sources = path.is_relative_to("csrc/flash_attn") and (not kernels or bool(KERNELS.fullmatch(path.name)))
    python = path.is_relative_to("flash_attn") and path.suffix == ".py" and "cute" not in path.parts
    return sources or python or path.is_relative_to("csrc/cutlass/include") or path.name in ("LICENSE", "AUTHORS")


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def unpack(folder: Path, work: Path) -> None:
    """Both archives of the folder below `work`: work/site, to be on the path, and work/flash. Raises UserError."""
    if (here := platform.python_version()).rpartition(".")[0] != PYTHON:
        raise UserError(f"--carry: its packages are for Python {PYTHON}, and this is {here}")
    for name in (SITE, FLASH):
        if not (folder / name).is_file():
            raise UserError(f"--carry: {folder} has no {name}: make it with `gpu_smoke.py pack {folder}`")
        with tarfile.open(folder / name) as archive:
            archive.extractall(work, filter="data")
