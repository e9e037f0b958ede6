//! Cedar policies: schema, entities, evaluation, validation and their tests.
