"""The workflows with nodes that ComfyUI itself has had only since later versions: masks that nobody draws."""

from shipped.notes import BIREFNET, LANDMARKER, SAM
from shipped.parts import PREPARING, TOP, InstructWorkflow

FIRST, SECOND, THIRD, FOURTH = ((PREPARING, TOP + 460 + 170 * place) for place in range(4))  # below the picture


def object_background_removed(workflow: InstructWorkflow) -> None:
    """Show an object on a plain colour, marked by ComfyUI's background removal."""
    workflow.load(pos=(PREPARING, TOP))
    chosen = {"models": [BIREFNET], "bg_removal_name": BIREFNET["name"]}
    model = workflow.add("LoadBackgroundRemovalModel", FIRST, (360, 90), **chosen)
    mask = workflow.add("RemoveBackground", SECOND, (360, 60), bg_removal_model=model)
    workflow.instruct_by(mask, "use the object, an astronaut", "an astronaut in a field of sunflowers, morning light")


def face_found(workflow: InstructWorkflow) -> None:
    """Show a face large, found by ComfyUI's face landmarks."""
    workflow.load(pos=(PREPARING, TOP))
    chosen = {"models": [LANDMARKER], "model_name": LANDMARKER["name"]}
    model = workflow.add("LoadMediaPipeFaceLandmarker", FIRST, (360, 90), **chosen)
    found = workflow.add("MediaPipeFaceLandmarker", SECOND, (360, 130), face_detection_model=model)
    mask = workflow.add("MediaPipeFaceMask", FOURTH, (360, 90), face_landmarks=found, regions="all")
    workflow.instruct_by(mask, "face", action="crop")


def object_by_words(workflow: InstructWorkflow) -> None:
    """Show an object on a plain colour, marked by SAM 3 where it is named."""
    workflow.load(pos=(PREPARING, TOP))
    model = workflow.add("CheckpointLoaderSimple", FIRST, (360, 110), "SAM 3.1", models=[SAM], ckpt_name=SAM["name"])
    words = workflow.add("CLIPTextEncode", SECOND, (360, 120), "What to find", clip=model, text="helmet")
    asked = {"model": model, "conditioning": words}
    mask = workflow.add("SAM3_Detect", THIRD, (360, 220), image=workflow.loaded, **asked)
    workflow.instruct_by(mask, "use the object, a helmet", "object")


BUILDERS = object_background_removed, face_found, object_by_words
