/// What can be wrong with a report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewerError {
    /// Two queries share an id, so a link to one of them would be ambiguous.
    #[error("two queries have the id {id:?}")]
    DuplicateQuery {
        /// The shared id.
        id: String,
    },
    /// A histogram needs one more edge than counts, or neither.
    #[error("query {query:?}: a histogram of {counts} counts needs {} edges, got {edges}", counts + 1)]
    HistogramShape {
        /// Id of the query.
        query: String,
        /// Number of edges given.
        edges: usize,
        /// Number of counts given.
        counts: usize,
    },
    /// A row's layer scores do not match the layers the query names.
    #[error("query {query:?}, train example {train_id:?}: {got} layer scores, but the query names {expected} layers")]
    LayerShape {
        /// Id of the query.
        query: String,
        /// Id of the train example.
        train_id: String,
        /// Number of layers the query names.
        expected: usize,
        /// Number of layer scores in the row.
        got: usize,
    },
    /// A line needs as many losses as steps, and as many bands or none.
    #[error("query {query:?}: a line of {steps} steps has {losses} losses and {band} bands")]
    LineShape {
        /// Id of the query.
        query: String,
        /// Number of steps given.
        steps: usize,
        /// Number of losses given.
        losses: usize,
        /// Number of bands given.
        band: usize,
    },
    /// JSON, and with it the page, has no notation for NaN and infinity.
    #[error("query {query:?}: {place} is not a finite number")]
    NotFinite {
        /// Id of the query.
        query: String,
        /// Which number.
        place: String,
    },
    /// A part of the report could not be written as JSON.
    #[error("the report could not be written as JSON")]
    Json(#[from] serde_json::Error),
}
