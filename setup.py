"""Package `openrlhf_prefix`; the versions are those of openrlhf_prefix/pins.py."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
pins = runpy.run_path(str(HERE / "openrlhf_prefix" / "pins.py"))
version = runpy.run_path(str(HERE / "openrlhf_prefix" / "__init__.py"))["__version__"]

setup(
    name="openrlhf_prefix",
    version=version,
    description="Prefix-RFT and its rivals on OpenRLHF: demonstrations and reinforcement in one stage",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    keywords="reinforcement learning, supervised fine-tuning, language models, RLVR, OpenRLHF",
    packages=find_packages(include=["openrlhf_prefix", "openrlhf_prefix.*"]),
    package_data={"openrlhf_prefix": ["py.typed", "report/assets/*", "report/assets/uplot/*"]},
    python_requires=">=3.10,<3.13",
    install_requires=pins["CORE"],
    extras_require={"cpu": pins["CPU"], "gpu": pins["GPU"], "test": pins["TEST"], "examples": pins["EXAMPLES"]},
    entry_points={"console_scripts": ["openrlhf-prefix = openrlhf_prefix.cli:script"]},
)
