import re
from pathlib import Path

from setuptools import find_packages, setup

X86 = 'platform_machine == "x86_64" or platform_machine == "AMD64"'
ARM = 'platform_machine == "arm64" or platform_machine == "aarch64"'
THEORY = ["scipy>=1.13"]
REPORT = ["markdown>=3.6", *THEORY]
EXPORT = ["onnxruntime>=1.20", "tf2onnx>=1.17"]
TENSORFLOW = [f"tensorflow-cpu>=2.21,<2.22; {X86}", f"tensorflow>=2.21,<2.22; {ARM}"]
VERSION = re.search(
    r'__version__ = "(.+)"', Path(__file__).with_name("selfsup").joinpath("__init__.py").read_text()
)[1]
TFDS = ["tensorflow-datasets>=4.9.10,<5", "importlib_resources>=6"]  # TFDS 4.9.10 forgets the second

setup(
    name="selfsup",
    version=VERSION,
    description="Siamese networks without negative pairs in Keras 3, and why they do not collapse",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["selfsup*"]),
    package_data={
        "selfsup": ["py.typed"],
        "selfsup.analysis": ["comparison.html", "comparison.js", "page.html", "page.js"],
        "selfsup.reproduction": ["published.json", "published_spectra.json"],
    },
    entry_points={"console_scripts": ["selfsup = selfsup.__main__:main"]},
    install_requires=[
        "absl-py>=2.1",
        "keras>=3.15,<4",
        "matplotlib>=3.10",
        "numpy>=2.0",
        "pillow>=10.4",
    ],
    extras_require={
        "cpu": [*TENSORFLOW, *TFDS],
        "report": REPORT,
        "theory": THEORY,
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22", *TFDS],
        "jax": ["jax>=0.10,<0.11"],
        "jax-gpu": ["jax[cuda12]>=0.10,<0.11"],
        "export": EXPORT,
        "tensorboard": ["tensorboard>=2.20"],
        "notebooks": ["ipywidgets>=8", "jupyterlab>=4", "scikit-learn>=1.5"],
        "test": [
            *REPORT,
            *EXPORT,
            "build>=1.2",
            "hypothesis>=6.100",
            "import-linter>=2.1",
            "jax>=0.10,<0.11",
            "mypy>=1.15",
            "nbmake>=1.5",
            "pytest>=9,<10",
            "pytest-xdist>=3.6",
            "ruff>=0.14",
            "tensorboard>=2.20",
        ],
    },
)
