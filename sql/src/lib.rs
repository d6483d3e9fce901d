//! DataFusion over the tables and Flight SQL in front of it.
