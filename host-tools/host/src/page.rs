//! One HTML page: no other file, no script, readable on paper.

use std::fmt::{Display, Write as _};

/// What is written so far.
#[derive(Debug, Clone)]
pub struct Page(String);

impl Page {
    /// A page with that title and nothing else.
    pub fn new(title: &str) -> Self {
        let title = escape(title);
        Self(format!(
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>\
             <meta name='viewport' content='width=device-width, initial-scale=1'>\
             <title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>\n"
        ))
    }

    /// A section begins.
    pub fn heading(&mut self, text: &str) {
        write(&mut self.0, format_args!("<h2>{}</h2>\n", escape(text)));
    }

    /// Text.
    pub fn paragraph(&mut self, text: &str) {
        write(&mut self.0, format_args!("<p>{}</p>\n", escape(text)));
    }

    /// What a reader should bear in mind.
    pub fn note(&mut self, text: &str) {
        write(
            &mut self.0,
            format_args!("<p class='note'>{}</p>\n", escape(text)),
        );
    }

    /// What a reader must not miss.
    pub fn warning(&mut self, text: &str) {
        write(
            &mut self.0,
            format_args!("<p class='warning' role='alert'>{}</p>\n", escape(text)),
        );
    }

    /// The figures that matter: what, value, detail.
    pub fn cards(&mut self, cards: &[(&str, String, String)]) {
        self.0 += "<div class='cards'>";
        for (what, value, detail) in cards {
            write(
                &mut self.0,
                format_args!(
                    "<div><span>{}</span><strong>{}</strong><small>{}</small></div>",
                    escape(what),
                    escape(value),
                    escape(detail)
                ),
            );
        }
        self.0 += "</div>\n";
    }

    /// A table of two columns: what, and how much.
    pub fn pairs(&mut self, rows: &[(String, String)]) {
        self.0 += "<div class='wide'><table>";
        for (key, value) in rows {
            write(
                &mut self.0,
                format_args!(
                    "<tr><th scope='row'>{}</th><td class='text'>{}</td></tr>",
                    escape(key),
                    escape(value)
                ),
            );
        }
        self.0 += "</table></div>\n";
    }

    /// A table of texts, numbers to the right.
    pub fn table(&mut self, headings: &[&str], rows: impl Iterator<Item = Vec<String>>) {
        self.open_table(headings);
        for row in rows {
            let cells: Vec<_> = row.iter().map(escape).collect();
            self.row(&cells);
        }
        self.close_table();
    }

    /// A table, whose rows follow.
    pub fn open_table(&mut self, headings: &[&str]) {
        self.0 += "<div class='wide'><table><thead><tr>";
        for heading in headings {
            write(
                &mut self.0,
                format_args!("<th scope='col'>{}</th>", escape(heading)),
            );
        }
        self.0 += "</tr></thead><tbody>\n";
    }

    /// Of cells that are HTML.
    pub fn row(&mut self, cells: &[String]) {
        self.0 += "<tr>";
        for (n, cell) in cells.iter().enumerate() {
            let class = if n == 0 { " class='text'" } else { "" };
            write(&mut self.0, format_args!("<td{class}>{cell}</td>"));
        }
        self.0 += "</tr>\n";
    }

    /// Ends the table that is open.
    pub fn close_table(&mut self) {
        self.0 += "</tbody></table></div>\n";
    }

    /// A drawing in SVG, and what it shows.
    pub fn figure(&mut self, svg: &str, caption: &str) {
        write(
            &mut self.0,
            format_args!(
                "<figure><div class='wide'>{svg}</div><figcaption>{}</figcaption></figure>\n",
                escape(caption)
            ),
        );
    }

    /// Points.
    pub fn list(&mut self, items: &[String]) {
        self.0 += "<ul>";
        for item in items {
            write(&mut self.0, format_args!("<li>{}</li>", escape(item)));
        }
        self.0 += "</ul>\n";
    }

    /// The whole page.
    pub fn finish(self) -> String {
        self.0 + "</main></body></html>\n"
    }
}

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--line:#d8dee6;--paper:#fff;--card:#f4f6f9;--one:#2563a8;--two:#c2571a}\
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa6b5;--line:#333c48;--paper:#14181e;--card:#1d232b;--one:#6aa9e9;--two:#f0965a}}\
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
main{max-width:1080px;margin:0 auto;padding:24px}h1{font-size:26px;margin:0 0 16px}h2{font-size:19px;margin:32px 0 8px}\
p,figcaption{max-width:75ch;color:var(--soft)}.note{border-left:4px solid var(--one);padding-left:12px}\
.warning{border:2px solid #b3261e;color:#b3261e;padding:12px;font-weight:600}\
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:12px}\
.cards div{background:var(--card);border-radius:8px;padding:12px 16px;display:flex;flex-direction:column}\
.cards span,.cards small{color:var(--soft)}.cards strong{font-size:26px}\
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{padding:4px 8px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}\
th{color:var(--soft);font-weight:600;white-space:normal;vertical-align:bottom}\
td.text,th:first-child{text-align:left}td.text{overflow-wrap:anywhere;white-space:normal}\
figure{margin:0}svg{max-width:100%;height:auto}svg text{fill:var(--soft);font:11px system-ui,sans-serif}\
.bar{fill:var(--one)}.line{fill:none;stroke:var(--two);stroke-width:2}.grid{stroke:var(--line)}\
@media print{body{font-size:11px}.wide{overflow:visible}tr,figure,.cards div{break-inside:avoid}h2{break-after:avoid}}";

/// Writes to a string, which cannot fail.
pub fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes all");
}

/// Text as HTML.
pub fn escape(text: impl Display) -> String {
    let text = text.to_string();
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&#39;")
        .replace('"', "&quot;")
}

/// The start of a drawing of that size; `</svg>` ends it.
pub fn svg_open(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0} {height:.0}' width='{width:.0}' height='{height:.0}' role='img'>"
    )
}
