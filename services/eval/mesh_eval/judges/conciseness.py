from mesh_eval.domain import Metric, Part

CONCISENESS = Metric(name="conciseness", parts=(Part.MESSAGE, Part.ANSWER), best=1)
