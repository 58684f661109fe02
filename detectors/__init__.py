"""The science of Touchstone: contexts, observations, detectors, findings and reports."""
