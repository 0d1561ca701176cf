from mesh_eval.domain import Metric, Part

HELPFULNESS = Metric(name="helpfulness", parts=(Part.MESSAGE, Part.ANSWER), best=1)
