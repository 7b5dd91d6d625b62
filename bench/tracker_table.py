"""Trackers over the sequences of FASTTRACK_DATA: success AUC, precision at 20 px, overlap success at 0.5, speed.

One pass from the first box of the ground truth. Every finished (variant, sequence) is written to the JSON file at
once and skipped when the command is run again, so that it may be stopped at any time.

    FASTTRACK_DATA=… python bench/tracker_table.py --variants kcf,mosse,dcfst --threads 2
    FASTTRACK_DATA=… python bench/tracker_table.py --variants crt --set update_lr=5e-9 --name "crt, paper's update rate"
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import fasttrack
from fasttrack.geometry import Box

# Sources whose corners count from 1; the others are kept as they are.
ZERO_BASED = ("vot15_", "got10k_")


@dataclass(frozen=True)
class Variant:
    tracker: str
    options: dict[str, Any] = field(default_factory=dict)


FEATURES = ("hog", "hog+cn", "rgb", "conv-2", "conv-4", "conv-7")
VARIANTS = {
    **{name: Variant(name) for name in fasttrack.list_trackers()},
    **{f"crt {name}": Variant("crt", {"features": name}) for name in FEATURES},
    **{f"crt {name} cg": Variant("crt", {"features": name, "solver": "cg"}) for name in FEATURES},
    "crt th=0 a=0": Variant("crt", {"threshold": 0.0, "a": 0.0}),
    **{f"crt {w}x{h}": Variant("crt", {"patch_width": w, "patch_height": h}) for w, h in ((7, 5), (5, 3), (3, 3))},
    "kcf linear": Variant("kcf", {"kernel": "linear"}),
    "kcf vgg-m/conv1": Variant("kcf", {"features": "vgg-m/conv1"}),
    "kcf resnet18/conv1": Variant("kcf", {"features": "resnet18/conv1"}),
    "kcf one size": Variant("kcf", {"scale_levels": 1}),
    "dcfst released": Variant("dcfst", {"variant": "released"}),
    "dcfst one size": Variant("dcfst", {"size_search": "none"}),
    "dcfst pyramid": Variant("dcfst", {"size_search": "pyramid"}),
    "dcfst not augmented": Variant("dcfst", {"augment": False}),
    **{f"drvt {mode}": Variant("drvt", {"mode": mode}) for mode in ("cf", "cnn")},
    "drvt cf linear": Variant("drvt", {"mode": "cf", "kernel": "linear"}),
    "drvt linear": Variant("drvt", {"kernel": "linear"}),
    **{f"dslt {loss}": Variant("dslt", {"loss": loss}) for loss in ("square", "focal", "shrinkage-original")},
    "dslt released": Variant("dslt", {"variant": "released"}),
    **{
        f"dlst {ablation}": Variant("dlst", {"ablation": ablation})
        for ablation in ("no-localisation", "fully-connected", "only-estimated-location")
    },
    "dlst released": Variant("dlst", {"variant": "released"}),
}


def load(folder: Path, limit: int | None) -> tuple[list[Path], np.ndarray]:
    names = sorted((folder / "img").glob("*.jpg"))[:limit]
    text = (folder / "groundtruth_rect.txt").read_text().replace(",", " ").replace("\t", " ")
    truth = np.array([[float(v) for v in line.split()] for line in text.splitlines() if line.strip()])[:limit]
    if not folder.name.startswith(ZERO_BASED):
        truth[:, :2] -= 1
    return names, truth


def read(name: Path) -> np.ndarray:
    image = cv2.imread(str(name), cv2.IMREAD_COLOR)
    if image is None:
        sys.exit(f"{name}: cannot be read")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def score(boxes: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    overlap = np.array([Box(*a).iou(Box(*b)) for a, b in zip(boxes, truth, strict=True)])
    off = np.linalg.norm(boxes[:, :2] + boxes[:, 2:] / 2 - truth[:, :2] - truth[:, 2:] / 2, axis=1)
    return {
        "auc": float(np.mean([(overlap > t).mean() for t in np.linspace(0, 1, 21)])),
        "precision": float((off <= 20).mean()),
        "os": float((overlap > 0.5).mean()),
    }


def track(
    variant: Variant, extra: dict[str, Any], folder: Path, args: argparse.Namespace
) -> tuple[dict[str, Any], str]:
    """The row of one sequence, and which weights the tracker used."""
    names, truth = load(folder, args.frames)
    tracker = fasttrack.create_tracker(variant.tracker, **{**variant.options, **extra})
    results = list(tracker.run((read(n) for n in names), truth[0]))
    boxes = np.array([truth[0], *(r.box.as_tuple() for r in results)])
    row = {
        **score(boxes, truth),
        "frames": len(names),
        "fps": len(results) / sum(r.seconds for r in results),
        "lost": sum(r.lost for r in results),
    }
    if args.boxes:
        row["boxes"] = boxes.round(2).tolist()
    return row, tracker.weights_note


def show(name: str, rows: dict[str, Any], total: int) -> str:
    mean = {k: np.mean([r[k] for r in rows.values()]) for k in ("auc", "precision", "os")}
    speed = np.median([r["fps"] for r in rows.values()])
    return (
        f"{name:28s} AUC {mean['auc']:.3f}  precision@20 {mean['precision']:.3f}  OS@0.5 {mean['os']:.3f}  "
        f"FPS {speed:6.1f}  ({len(rows)} of {total} sequences)"
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", default="crt", help="comma-separated, of: " + ", ".join(VARIANTS))
    parser.add_argument("--sequences", help="comma-separated; default: all")
    parser.add_argument("--frames", type=int, help="only the first so many frames of each sequence")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the Config")
    parser.add_argument("--name", help="name of the row, with --set")
    parser.add_argument("--boxes", action="store_true", help="keep the box of every frame in the JSON file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("bench/results/tracker_table.json"))
    return parser.parse_args()


def value_of(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def keep(table: dict[str, Any], path: Path) -> None:
    """Write the file beside its place first: a stop in between loses nothing."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(table))
    part.replace(path)


def main() -> None:
    args = arguments()
    root = Path(os.environ.get("FASTTRACK_DATA") or sys.exit("FASTTRACK_DATA is not set"))
    os.environ.setdefault("FASTTRACK_WEIGHTS", str(root / "weights"))
    folders = sorted(p for p in (root / "sequences").iterdir() if (p / "img").is_dir())
    if args.sequences:
        wanted = args.sequences.split(",")
        folders = [root / "sequences" / name for name in wanted]
    extra = {k: value_of(v) for k, v in (item.split("=", 1) for item in args.set)}
    torch.set_num_threads(args.threads)
    table = json.loads(args.out.read_text()) if args.out.exists() else {"rows": {}}
    table["machine"] = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for key in args.variants.split(","):
        variant = VARIANTS.get(key) or sys.exit(f"no variant {key!r}; there are: {', '.join(VARIANTS)}")
        name = args.name or " ".join([key, *args.set]) + (f" [{args.frames} frames]" if args.frames else "")
        row = table["rows"].setdefault(name, {"note": "", "threads": args.threads, "sequences": {}})
        for folder in folders:
            if folder.name not in row["sequences"]:
                row["sequences"][folder.name], row["note"] = track(variant, extra, folder, args)
                keep(table, args.out)
        done = {f.name: row["sequences"][f.name] for f in folders}
        print(show(name, done, len(folders)), row["note"], flush=True)
        print("   ", " ".join(f"{n} {r['auc']:.2f}" for n, r in done.items()), flush=True)


if __name__ == "__main__":
    main()
