"""Protections: detectors measure, one engine decides when a row of the catalogue is raised."""
