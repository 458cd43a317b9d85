"""The building benchmark's parts: who turns a folder of photos into a cache, and how well."""
