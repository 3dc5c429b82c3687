//! Page of a report: a template in which every value is escaped for HTML.

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use webhook_core::executor::Cancellation;

/// Upper bound on a page, in bytes.
const PAGE_BYTES: usize = 16 * 1024 * 1024;

const PAGE: &str = "page";
const SUMMARY: &str = "summary";

/// A compiled template, and one for the summary.
#[derive(Debug)]
pub(crate) struct ReportPage {
    environment: Environment<'static>,
    has_summary: bool,
}

/// Error of rendering a page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PageError {
    /// The template is invalid.
    #[error("the template is wrong")]
    Template(#[source] minijinja::Error),
    /// The template uses an unknown name.
    #[error("the template uses {name}, which is not a query; it has {known}")]
    UnknownName {
        /// The unknown name.
        name: String,
        /// The known names.
        known: String,
    },
}

impl ReportPage {
    /// Compiles a template that gets values of the names `known`.
    pub(crate) fn new(source: String, known: &[&str]) -> Result<Self, PageError> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|name| match name {
            SUMMARY => AutoEscape::None,
            _ => AutoEscape::Html,
        });
        // A null in a query's result is a gap on the page, not the word None.
        environment.set_formatter(|output, state, value| {
            if value.is_none() { Ok(()) } else { minijinja::escape_formatter(output, state, value) }
        });
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(PageError::Template)?);
        let mut page = Self { environment, has_summary: false };
        page.add(PAGE, source, known)?;
        Ok(page)
    }

    /// Adds a template for the summary, which is plain text.
    pub(crate) fn with_summary(mut self, source: String, known: &[&str]) -> Result<Self, PageError> {
        self.add(SUMMARY, source, known)?;
        self.has_summary = true;
        Ok(self)
    }

    fn add(&mut self, name: &'static str, source: String, known: &[&str]) -> Result<(), PageError> {
        self.environment.add_template_owned(name, source).map_err(PageError::Template)?;
        let template = self.environment.get_template(name).map_err(PageError::Template)?;
        let globals: Vec<_> = self.environment.globals().map(|(name, _)| name).collect();
        let mut unknown: Vec<_> = template.undeclared_variables(false).into_iter().collect();
        unknown.retain(|name| !known.contains(&name.as_str()) && !globals.contains(&name.as_str()));
        unknown.sort();
        match unknown.into_iter().next() {
            Some(name) => Err(PageError::UnknownName { name, known: known.join(", ") }),
            None => Ok(()),
        }
    }

    /// Renders the page; ends early if the attempt is to stop.
    pub(crate) fn html(&self, values: &Value, stop: &Cancellation) -> Result<Vec<u8>, PageError> {
        let template = self.environment.get_template(PAGE).map_err(PageError::Template)?;
        let mut bounded = Bounded { bytes: Vec::new(), stop };
        template.render_captured_to(values.clone(), &mut bounded).map_err(PageError::Template)?;
        Ok(bounded.bytes)
    }

    /// Renders the summary, if there is a template for it.
    pub(crate) fn summary(&self, values: &Value) -> Result<Option<String>, PageError> {
        if !self.has_summary {
            return Ok(None);
        }
        let template = self.environment.get_template(SUMMARY).map_err(PageError::Template)?;
        template.render(values.clone()).map(Some).map_err(PageError::Template)
    }
}

/// Collects output up to the bound on a page, until the attempt is to stop.
struct Bounded<'a> {
    bytes: Vec<u8>,
    stop: &'a Cancellation,
}

impl io::Write for Bounded<'_> {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("the report was stopped"));
        }
        if self.bytes.len() + more.len() > PAGE_BYTES {
            return Err(io::Error::other(format!("the page is longer than {PAGE_BYTES} bytes")));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
