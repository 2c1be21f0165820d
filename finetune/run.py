"""Command line of fine-tuning: training clips in, a weights file a seed out."""

from __future__ import annotations

import os
import sys

from cache.base.console import Console, entry_point
from cache.base.errors import needed
from extractors.fetching.offline import apply_offline
from finetune.request import TrainRequest

_ABOUT = """Train a backbone to tell the labels of normal training clips apart, and write it to a file
that the extraction takes as --weights. Test clips are never opened."""
_EXAMPLE = (
    "--backbone beats --data dev_data eval_data --weights BEATs_iter3.pt --train lora "
    "--head subcluster-adacos --augment mixup --out tuned.safetensors"
)


@entry_point(TrainRequest, "finetune.run", _ABOUT, _EXAMPLE)
def main(request: TrainRequest, console: Console) -> int:
    """Fine-tune a backbone; exit code 1 where clips were left out."""
    apply_offline(request)  # before the hub's client is loaded, which reads it once
    from extractors.clips.listing import check_roots  # noqa: PLC0415

    check_roots(request.data)
    try:
        from finetune.train import train  # noqa: PLC0415 -- torch comes with it
    except ModuleNotFoundError as error:
        raise needed("fine-tuning", error, "finetune") from error

    with console.progress("step") as told:
        trained = train(request, told)
    console.notes(trained.notes)
    console.some("left out", trained.faults)
    if os.environ.get("RANK", "0") == "0":  # of the processes that a launcher started, the first speaks
        console.notes(trained.made[0].notes)
        for made in trained.made:
            last = made.history[-1] if made.history else {}
            figures = {name: last[name] for name in ("loss", "held_loss", "accuracy") if name in last}
            done = f"{len(made.history)} epochs" if made.is_new else "there already"
            told_of = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
            console.made(
                f"{trained.clips} clips, {len(made.classes)} classes: {done}, {told_of} -> {made.path}",
                made=made.path, clips=trained.clips, classes=len(made.classes),
                epochs=len(made.history), new=made.is_new, **figures,
            )  # fmt: skip
    return 1 if trained.faults else 0


if __name__ == "__main__":
    sys.exit(main())
