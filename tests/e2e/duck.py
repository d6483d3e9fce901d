"""DuckDB with the lake attached, as any reader beside Weir would."""

import glob
import site

import duckdb


def attached(weir):
    """A connection that has the lake of a data directory as `lake`, read-only."""
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    extensions = [e for folder in site.getsitepackages() for e in glob.glob(f"{folder}/duckdb_extension_*/extensions/*/*.duckdb_extension")]
    assert len(extensions) == 3
    for extension in extensions:
        connection.execute(f"LOAD '{extension}'")
    connection.execute("SET TimeZone = 'UTC'")
    catalog = f"postgres:{weir.catalog_url}" if weir.catalog_url else f"sqlite:{weir.data / 'catalog.sqlite'}"
    connection.execute(f"ATTACH 'ducklake:{catalog}' AS lake (READ_ONLY)")
    return connection
