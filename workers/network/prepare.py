"""The process that prepares a model: `python -m workers.network.prepare`, with a request on standard input."""

from __future__ import annotations

import logging
import sys

from common.errors import ImageSearchError, ModelError
from common.files import write_atomically
from common.logs import setup_logging
from workers.network.batched import BatchedExtractor
from workers.network.keras_models import load_model
from workers.network.keras_network import KerasNetwork, has_gpu, set_threads
from workers.network.litert_network import LiteRtNetwork, convert
from workers.network.pictures import trial_pictures
from workers.network.preparation import RECIPE, Prepared, Request, draft_path
from workers.network.processor import processor_flags, supported_precisions
from workers.network.trial import ROUNDS, choose, compare

logger = logging.getLogger(__name__)


def prepare(request: Request) -> Prepared:
    """Makes what the precision needs; for `auto`, measures what there is to choose from.

    Raises:
        ModelError: The model cannot be loaded, or not be converted.
    """
    settings = request.settings
    set_threads(lambda: request.threads)
    model, spec = load_model(settings.model, request.weights)
    if settings.precision == "int8":
        return _with_int8_file(request, model, Prepared(spec=spec, precision="int8"))
    pictures, real = trial_pictures(settings, spec.input_size)
    precisions = ("float32", "bfloat16") if has_gpu() else supported_precisions(processor_flags())

    exact = BatchedExtractor(KerasNetwork(model, spec), spec, "float32")
    reference = exact.extract(pictures)
    extractors = [exact]
    if "bfloat16" in precisions:
        rounded, _ = load_model(settings.model, request.weights, "bfloat16")
        extractors.append(BatchedExtractor(KerasNetwork(rounded, spec), spec, "bfloat16"))
    # With int8 to come, this is only for the case that its conversion is killed.
    trials = compare(extractors, pictures, reference, rounds=1 if "int8" in precisions else ROUNDS)
    prepared = Prepared(spec=spec, precision=choose(trials), pictures=real, trials=tuple(trials))
    if "int8" not in precisions:
        return prepared
    write_atomically(draft_path(request.target), prepared.model_dump_json(indent=1).encode())
    try:
        prepared = _with_int8_file(request, model, prepared)
        network = LiteRtNetwork(settings.data_dir / prepared.int8_file, request.threads)
    except ModelError as error:
        logger.warning("int8 is left out: %s", error)
        return prepared
    trials = compare([*extractors, BatchedExtractor(network, spec, "int8")], pictures, reference)
    return prepared.model_copy(update={"precision": choose(trials), "trials": tuple(trials)})


def _with_int8_file(request: Request, model: object, prepared: Prepared) -> Prepared:
    spec = prepared.spec
    target = spec.store_path(request.settings.data_dir).name
    path = request.target.parent / f"{target}.int8-{RECIPE}.tflite"
    if not path.exists():
        logger.info("converting %s to int8", spec.name)
        try:
            convert(model, spec, path)  # type: ignore[arg-type]
        except Exception as error:
            # The converter raises whatever it stumbles over.
            raise ModelError(f"{spec.name} cannot be converted to int8: {error}") from error
    file = str(path.relative_to(request.settings.data_dir))
    return prepared.model_copy(update={"int8_file": file, "int8_bytes": path.stat().st_size})


def main() -> int:
    """Returns the exit code; prints the reason for one that is not 0."""
    request = Request.model_validate_json(sys.stdin.buffer.read())
    setup_logging(request.settings)
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    try:
        prepared = prepare(request)
    except ImageSearchError as error:
        print(error)
        return 1
    write_atomically(request.target, prepared.model_dump_json(indent=1).encode())
    draft_path(request.target).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
