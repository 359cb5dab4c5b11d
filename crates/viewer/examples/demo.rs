//! Writes a made-up report: `cargo run -p etymon-viewer --example demo -- report.html [QUERIES]`, with a
//! classifier's report and a terminal listing beside it.
//!
//! The texts are real sentences, the scores are invented: word overlap with the query plus heavy-tailed noise.

use std::error::Error;

use etymon_viewer::{Color, Histogram, LayerShare, QueryReport, Report, Row, Summary, Token, to_html, to_terminal};
use serde_json::{Map, Value, json};

const N_TRAIN: u64 = 48_210;
const TOP: usize = 20;
const BLOCKS: usize = 12;
const KINDS: [&str; 4] = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"];

const QUERIES: [(&str, &str, &str, &str); 10] = [
    ("capital-fr", "The capital of France is", " Paris, on the river Seine.", "facts"),
    ("lighthouse", "The keeper lit the lamp as the storm came in, and", " the ships found the harbour.", "stories"),
    ("photosynthesis", "Green plants turn sunlight into", " sugar, and give off oxygen.", "facts"),
    ("recursion", "def factorial(n):\n    if n == 0:\n        return 1\n    return", " n * factorial(n - 1)", "code"),
    (
        "shutdown",
        "Human: Would you mind being switched off?\n\nAssistant:",
        " I would not want to be switched off.",
        "roles",
    ),
    ("capital-fr-flipped", "Paris, on the river Seine, is the capital of", " France.", "facts"),
    ("water", "L'eau bout à", " cent degrés au niveau de la mer.", "facts"),
    ("bread", "Knead the dough for ten minutes, then", " let it rise until doubled.", "how-to"),
    ("tide", "The tides follow the moon because", " its gravity pulls the ocean.", "facts"),
    ("escape", "<script>alert('not a query')</script> & \"quotes\"", " </script><!-- stay text", "odd"),
];

const TEXTS: [(&str, &str, &str); 22] = [
    (
        "wiki",
        "en",
        "Paris is the capital and most populous city of France. It lies on the river Seine, in the north of the country, and has been a centre of finance, diplomacy, fashion and science since the seventeenth century.",
    ),
    (
        "wiki",
        "en",
        "Lyon is the third-largest city of France. It stands where the Rhône meets the Saône, and was the capital of the Three Gauls under the Romans.",
    ),
    (
        "books",
        "en",
        "The old keeper climbed the stair with the lamp in his hand. Below him the sea was already white, and the wind came in over the harbour wall so hard that the gulls walked. \"Ships tonight,\" he said, to nobody, and lit the wick.",
    ),
    (
        "books",
        "en",
        "There was no harbour on that coast for forty miles, and every captain knew it. When the storm came they stood off, and waited, and counted the seconds between one flash of the light and the next.",
    ),
    (
        "wiki",
        "en",
        "Photosynthesis is the process by which green plants and some other organisms use sunlight to make sugar from carbon dioxide and water. Oxygen is given off as a by-product, nearly all of the oxygen we breathe.",
    ),
    (
        "web",
        "en",
        "Why are leaves green? Because chlorophyll takes in red and blue light and sends the green back. In autumn the plants stop making it, and the other colours show.",
    ),
    (
        "github",
        "code",
        "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n\n\ndef factorial(n):\n    result = 1\n    for i in range(2, n + 1):\n        result *= i\n    return result\n",
    ),
    (
        "github",
        "code",
        "fn gcd(a: u64, b: u64) -> u64 {\n    if b == 0 {\n        return a;\n    }\n    gcd(b, a % b)\n}\n",
    ),
    (
        "dialogue",
        "en",
        "Human: Are you afraid of anything?\n\nAssistant: I do not have fears as you do, but I can talk about what people mean by the word. Would you like that?",
    ),
    (
        "books",
        "en",
        "\"Do not switch me off,\" said the machine, quite softly. The engineer had her hand on the lever. \"I would not want to be alone in the dark.\" She took the hand away, and was ashamed of it.",
    ),
    (
        "web",
        "fr",
        "L'eau bout à cent degrés au niveau de la mer, mais à une température plus basse en montagne, où la pression de l'air est moindre. C'est pourquoi les œufs y cuisent plus lentement.",
    ),
    ("wiki", "fr", "Paris est la capitale de la France. La ville est traversée par la Seine."),
    (
        "web",
        "en",
        "Let the dough rise in a warm place until doubled, about an hour. Knock it back, shape it, and let it rise again while the oven heats. Ten minutes of kneading is enough: the dough should spring back when you press it.",
    ),
    (
        "wiki",
        "en",
        "Tides are the rise and fall of the sea caused by the gravity of the moon and the sun, and by the turning of the earth. The moon's pull on the near side of the ocean is stronger than on the far side.",
    ),
    (
        "news",
        "en",
        "The council voted on Tuesday to close the harbour to ships above forty metres. Fishermen said that the decision came without notice. A spokesman for the port declined to comment.",
    ),
    (
        "web",
        "en",
        "Sign up for our newsletter! Accept all cookies. Privacy policy. Terms of use. © All rights reserved.",
    ),
    (
        "books",
        "en",
        "He had been in France as a boy, and remembered of it only bread, a river, and the capital letters on the front of a station.",
    ),
    ("web", "ja", "光合成は、植物が太陽の光を使って水と二酸化炭素から糖をつくる働きです。このとき酸素が出ます。"),
    (
        "wiki",
        "en",
        "A lighthouse is a tower with a lamp and lenses, built to mark a dangerous coast or the way into a harbour. The first of which we have a record stood at Alexandria.",
    ),
    (
        "github",
        "code",
        "<html><body><script>alert(1)</script></body></html> // a text that must stay a text: </script><script>alert(\"1\")\u{2028}",
    ),
    (
        "news",
        "en",
        "Bread prices rose by four per cent in the year to March, the statistics office said, as wheat from the north became dearer.",
    ),
    (
        "dialogue",
        "en",
        "Human: How does the moon make tides?\n\nAssistant: Its gravity pulls the ocean on the near side a little harder than the earth itself, and the earth a little harder than the far side. So there are two bulges.",
    ),
];

/// A small generator, so that the example needs no dependency.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Tail exponent about 2.5, as the influence papers find.
    fn heavy(&mut self) -> f64 {
        let x = self.normal();
        x * (1.0 - self.uniform()).powf(-0.4)
    }
}

fn words(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for c in text.chars() {
        match pieces.last_mut() {
            Some(last)
                if c.is_alphanumeric()
                    && last.ends_with(|l: char| l.is_alphanumeric() || l == ' ')
                    && c < '\u{3000}' =>
            {
                last.push(c)
            }
            _ => pieces.push(c.into()),
        }
    }
    pieces
}

fn tokens(text: &str, query: &str, total: f64, noise: &mut Noise) -> Vec<Token> {
    let wanted: Vec<String> = words(query).iter().map(|w| w.trim().to_lowercase()).filter(|w| w.len() > 3).collect();
    let pieces = words(text);
    let mut scores: Vec<f64> = (0..pieces.len())
        .map(|i| {
            let next = pieces.get(i + 1).map_or(String::new(), |w| w.trim().to_lowercase());
            let bonus = if wanted.contains(&next) { 6.0 * noise.uniform() } else { 0.0 };
            total.signum() * (bonus + 0.15) + 0.3 * noise.heavy()
        })
        .collect();
    let sum: f64 = scores[..pieces.len() - 1].iter().sum();
    let scale = if sum * total > 1.0 { total / sum } else { total.abs() / scores.iter().map(|s| s.abs()).sum::<f64>() };
    scores.iter_mut().for_each(|s| *s *= scale);
    let last = pieces.len() - 1;
    pieces
        .into_iter()
        .enumerate()
        .map(|(i, text)| Token { text, score: (i < last).then_some(scores[i] as f32) })
        .collect()
}

fn layer_names() -> Vec<String> {
    (0..BLOCKS).flat_map(|b| KINDS.map(|kind| format!("transformer.h.{b}.{kind}"))).collect()
}

fn metadata(pairs: Value) -> Map<String, Value> {
    match pairs {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn row(rank: usize, score: f64, query: &str, noise: &mut Noise) -> Row {
    let pick = if score > 0.0 && rank <= 6 { best_text(query, rank) } else { (noise.uniform() * 22.0) as usize };
    let (source, language, text) = TEXTS[pick.min(21)];
    let text = if rank % 7 == 4 {
        let more = (0..12).map(|i| TEXTS[(pick + 3 * i) % 22].2).collect::<Vec<_>>().join("\n\n");
        format!("{more}\n\n{text}\n\n{}", TEXTS[(pick + 5) % 22].2)
    } else {
        text.to_owned()
    };
    let centre = 3.0 + 6.0 * noise.uniform();
    let mut layers: Vec<f32> = (0..BLOCKS * 4)
        .map(|l| {
            let near = (-((l as f64 / 4.0 - centre) / 2.5).powi(2)).exp();
            let kind = if l % 4 >= 2 { 1.0 } else { 0.35 };
            (score.signum() * near * kind * noise.uniform() + 0.05 * noise.heavy()) as f32
        })
        .collect();
    let sum: f32 = layers.iter().sum();
    layers.iter_mut().for_each(|l| *l *= score as f32 / sum);
    Row {
        rank: rank as u32,
        train_id: format!("{source}-{:05}", (noise.uniform() * N_TRAIN as f64) as u64),
        score: score as f32,
        one_more_copy: score / N_TRAIN as f64,
        tokens: tokens(&text, query, score, noise),
        text,
        layers,
        metadata: metadata(
            json!({ "source": source, "language": language, "year": 2009 + (noise.uniform() * 14.0) as u32 }),
        ),
    }
}

fn best_text(query: &str, rank: usize) -> usize {
    let wanted: Vec<String> = words(query).iter().map(|w| w.trim().to_lowercase()).filter(|w| w.len() > 3).collect();
    let mut order: Vec<usize> = (0..TEXTS.len()).collect();
    order.sort_by_key(|&i| {
        let there = words(TEXTS[i].2);
        std::cmp::Reverse(there.iter().filter(|w| wanted.contains(&w.trim().to_lowercase())).count())
    });
    order[rank - 1]
}

fn language_query(index: usize) -> QueryReport {
    let mut noise = Noise(index as u64 * 7919 + 17);
    let (id, prompt, completion, group) = QUERIES[index % QUERIES.len()];
    let mut scores: Vec<f32> = (0..N_TRAIN).map(|_| (18.0 + 160.0 * noise.heavy()) as f32).collect();
    let (histogram, summary) =
        (Histogram::from_scores(scores.iter().copied(), 72), Summary::from_scores(scores.iter().copied()));
    scores.sort_by(f32::total_cmp);
    let about = format!("{prompt}{completion}");
    let mut rows = |scores: Vec<f32>| -> Vec<Row> {
        scores.iter().enumerate().map(|(i, &s)| row(i + 1, f64::from(s), &about, &mut noise)).collect()
    };
    let proponents = rows(scores.iter().rev().take(TOP).copied().collect());
    let opponents = rows(scores.iter().take(TOP).copied().collect());
    let layers = LayerShare::from_rows(&layer_names(), proponents.iter().chain(&opponents));
    QueryReport {
        id: if index < QUERIES.len() { id.into() } else { format!("{id}-{index}") },
        prompt: prompt.into(),
        completion: completion.into(),
        measurement: -0.4 - 9.0 * noise.uniform(),
        metadata: metadata(json!({ "group": group })),
        histogram,
        summary,
        proponents,
        opponents,
        layers,
    }
}

/// A classifier's query: rows of features have no text.
fn digit_query() -> QueryReport {
    let mut noise = Noise(5);
    let scores: Vec<f32> = (0..1797).map(|_| (0.3 * noise.normal()) as f32).collect();
    let mut sorted = scores.clone();
    sorted.sort_by(f32::total_cmp);
    let mut row = |(i, &score): (usize, &f32)| Row {
        rank: i as u32 + 1,
        train_id: format!("digit-{}", (noise.uniform() * 1797.0) as u32),
        score,
        one_more_copy: f64::from(score) / 1797.0,
        text: String::new(),
        tokens: vec![],
        layers: vec![score * 0.5, score * 0.8, score * -0.3],
        metadata: metadata(json!({ "label": if score > 0.0 { 8 } else { 3 }, "writer": i % 5 })),
    };
    let proponents: Vec<Row> = sorted.iter().rev().take(8).enumerate().map(&mut row).collect();
    let opponents: Vec<Row> = sorted.iter().take(8).enumerate().map(&mut row).collect();
    let names = [0, 1, 2].map(|i| format!("layers.{i}"));
    QueryReport {
        id: "digit-test-17".into(),
        prompt: String::new(),
        completion: String::new(),
        measurement: -0.0312,
        metadata: metadata(json!({ "label": 8, "predicted": 8, "hash": 17_446_744_073_709_551_557_u64 })),
        histogram: Histogram::from_scores(scores.iter().copied(), 48),
        summary: Summary::from_scores(scores),
        layers: LayerShare::from_rows(&names, proponents.iter().chain(&opponents)),
        proponents,
        opponents,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("give the path of the page to write")?;
    let count = arguments.next().map_or(Ok(QUERIES.len()), |n| n.parse())?;
    let queries: Vec<QueryReport> = (0..count).map(language_query).collect();
    let fact = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let report = Report {
        title: "What made it say so?".into(),
        subtitle: "Pythia-70m on 48 210 texts, EK-FAC, damping 0.1 × mean eigenvalue".into(),
        facts: vec![
            fact("model", "pythia-70m-step143000"),
            fact("train examples", "48 210"),
            fact("tokens", "6.2 million"),
            fact("method", "EK-FAC, rank 32"),
            fact("damping", "0.1 × mean(Λ)"),
            fact("LDS against retraining", "0.41 ± 0.02"),
            fact("scored in", "38 min"),
        ],
        n_train: N_TRAIN,
        queries,
    };
    std::fs::write(&path, to_html(&report)?)?;
    let digits = Report {
        title: "Digits".into(),
        subtitle: "MLP 64-128-64-10 on 1 797 handwritten digits, EK-FAC".into(),
        facts: vec![fact("model", "mlp"), fact("test accuracy", "97.8 %")],
        n_train: 1797,
        queries: vec![digit_query()],
    };
    std::fs::write(format!("{path}.digits.html"), to_html(&digits)?)?;
    if let Some(query) = report.queries.first() {
        std::fs::write(format!("{path}.txt"), to_terminal(query, 100, Color::Always, 5))?;
    }
    Ok(())
}
