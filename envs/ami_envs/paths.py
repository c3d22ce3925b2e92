"""Where the MJCF scenes and shipped weights are: inside the package in a wheel, beside `envs/` in a clone."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent
ASSETS = _HERE / "assets" if (_HERE / "assets").is_dir() else _HERE.parents[1] / "assets"
