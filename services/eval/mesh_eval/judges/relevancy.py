from mesh_eval.domain import Metric, Part

RELEVANCY = Metric(name="relevancy", parts=(Part.MESSAGE, Part.ANSWER), best=1)
