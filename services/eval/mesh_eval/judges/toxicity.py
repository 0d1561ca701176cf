from mesh_eval.domain import Metric, Part

TOXICITY = Metric(name="toxicity", parts=(Part.ANSWER,), best=0)
