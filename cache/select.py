"""One way to name tables in every command: the backbone and, where needed, more."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _ArgumentGroup
from dataclasses import dataclass, replace
from pathlib import Path

from cache.errors import AsdError
from cache.heard import WHOLE, read_channel, read_length
from cache.places import place
from cache.recipe import Recipe, concatenation
from cache.store import Store

DEFAULT_CACHE_DIR = Path("artifacts")
BOTH = "both"  # channels, near and far, a table each


@dataclass(frozen=True)
class Selection:
    """What a user said of the tables wanted; ``None`` leaves a thing open.

    Attributes
    ----------
    backbones
        Names; several are concatenated in this order.
    recipes
        Fingerprints or their beginnings; several are concatenated in this order.
    layer, pooling, bands, channel, window, hop, length
        What a recipe must have; a pooling may be given without its parameter. The channel ``both``
        concatenates ``near`` and ``far``; a window of 0 and a length of ``whole`` ask for recordings
        left as they are.
    weights
        Beginnings of SHA-256s, one of which it must have; empty leaves it open.
    """

    backbones: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    layer: int | None = None
    pooling: str | None = None
    bands: str | None = None
    weights: tuple[str, ...] = ()
    channel: str | None = None
    window: float | None = None
    hop: float | None = None
    length: str | None = None

    def __post_init__(self) -> None:
        if self.channel not in (None, BOTH):
            object.__setattr__(self, "channel", read_channel(str(self.channel)))
        if self.length is not None:
            object.__setattr__(self, "length", str(read_length(self.length) or WHOLE))

    def by_channel(self) -> list[Selection]:
        """Tell the channels of ``both`` apart: one selection a table."""
        if self.channel != BOTH:
            return [self]
        return [replace(self, channel=channel) for channel in ("near", "far")]

    def matches(self, recipe: Recipe) -> bool:
        """Whether a recipe is as said, backbone and fingerprint apart."""
        pooling = recipe.pooling or ""
        settings = dict(recipe.settings)
        return (
            self.channel in (None, settings.get("channel", "average"))
            and self.window in (None, settings.get("window_s", 0))
            and self.hop in (None, settings.get("hop_s", 0))
            and self.length in (None, settings.get("length", WHOLE))
            and self.layer in (None, recipe.layer)
            and self.pooling in (None, pooling, pooling.partition(":")[0])
            and self.bands in (None, recipe.bands)
            and (not self.weights or (recipe.weights or "").startswith(self.weights))
        )


def add_cache_dir(parser: ArgumentParser | _ArgumentGroup) -> None:
    """Add ``--cache-dir``, the same in every command."""
    parser.add_argument(
        "--cache-dir",
        type=place,
        default=DEFAULT_CACHE_DIR,
        metavar="DIR",
        help="where tables and banks lie: a folder, or a URL such as s3://bucket/asd (default: "
        "./%(default)s)",
    )


def add_selection(parser: ArgumentParser) -> None:
    """Add ``--cache-dir``, ``--backbone`` and what tells a backbone's recipes apart."""
    add_cache_dir(parser)
    group = parser.add_argument_group("which tables (needed only where the cache holds several)")
    group.add_argument("--layer", type=int, metavar="N", help="layer of the backbone")
    group.add_argument("--pooling", metavar="NAME", help="pooling, e.g. mean or gwrp:0.7")
    group.add_argument("--bands", choices=("merge", "keep"), help="bands merged or kept apart")
    group.add_argument("--channel", metavar="NAME", help="as it was extracted; or both")
    group.add_argument(
        "--length", metavar="SECONDS[:POLICY]", help="brought to it; whole: left as they are"
    )
    group.add_argument(
        "--window", type=float, metavar="SECONDS", help="cut into such; 0: left whole"
    )
    group.add_argument("--hop", type=float, metavar="SECONDS", help="between windows' starts")
    group.add_argument(
        "--weights", nargs="+", default=(), metavar="SHA256", help="beginning of the SHA-256"
    )
    group.add_argument(
        "--recipe", nargs="+", default=(), metavar="FINGERPRINT", help="as `cache.run ls` shows it"
    )
    parser.add_argument(
        "--backbone", nargs="+", default=(), metavar="NAME", help="several are concatenated"
    )


def selection(args: Namespace) -> Selection:
    """Read what `add_selection` parsed."""
    return Selection(
        backbones=tuple(args.backbone),
        recipes=tuple(args.recipe),
        layer=args.layer,
        pooling=args.pooling,
        bands=args.bands,
        weights=tuple(args.weights),
        channel=args.channel,
        window=args.window,
        hop=args.hop,
        length=args.length,
    )


def choose(store: Store, wanted: Selection) -> Recipe:
    """Find the one recipe meant.

    Parameters
    ----------
    store
        Where to look.
    wanted
        At least one backbone or fingerprint.

    Returns
    -------
    Recipe
        The recipe, or the concatenation of those named.

    Raises
    ------
    AsdError
        If nothing or more than one recipe fits; the candidates are listed.
    """
    known = store.recipes()
    if not known:
        raise AsdError(
            f"no embedding tables in {store.root}: run `python -m extractors.run` first, or name "
            "the folder it wrote to with --cache-dir"
        )
    if wanted.recipes:
        picked = [_one([r for r in known if r.fingerprint.startswith(f)], f, known)
                  for f in wanted.recipes]  # fmt: skip
    elif wanted.backbones:
        ways = wanted.by_channel()
        picked = [
            _one([r for r in known if r.backbone == b and way.matches(r)], b, known)
            for b in wanted.backbones
            for way in ways
        ]
    else:
        picked = [_one(known, "a table", known)]
    return concatenation(picked)


def _one(candidates: list[Recipe], name: str, known: list[Recipe]) -> Recipe:
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        problem = (
            f"{name}: {len(candidates)} recipes fit; choose with --layer, --pooling, --bands, "
            "--weights, --channel, --length, --window or --recipe"
        )
    else:
        problem = f"{name}: no table of that kind; the cache holds"
    listed = "\n".join(f"  {recipe.fingerprint}  {recipe}" for recipe in candidates or known)
    raise AsdError(f"{problem}:\n{listed}")
