"""The route /storage: how much space data sets, models and jobs take."""
