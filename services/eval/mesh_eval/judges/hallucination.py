from mesh_eval.domain import Metric, Part

HALLUCINATION = Metric(
    name="hallucination", parts=(Part.MESSAGE, Part.MEMORIES, Part.TOOL_RESULTS, Part.ANSWER), best=0
)
