//! The Secrets of Kubernetes, as `kubectl get secret -o yaml` or `-o json` prints them.

use crate::document::parse::decoded;
use crate::document::yaml::{Collection, Content, Fault, Node, Parser};
use crate::model::Plaintext;

use super::{Entry, EntryError, EntryProblem, distinct};

/// Reads Secrets: one, several documents of YAML, or a `List`. The values of `data` are base64, those of `stringData`
/// texts, which count if both have a name.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn parse_kubernetes(bytes: &[u8]) -> Result<Vec<Entry>, EntryError> {
    let mut walk = Walk { parser: Parser::new(bytes)? };
    let mut entries = Vec::new();
    while let Some(node) = walk.parser.next_document()? {
        match node.content {
            Content::Scalar(scalar) if scalar.text.as_str().is_empty() => {}
            content => entries.extend(walk.object(Node { content, ..node })?),
        }
    }
    distinct(entries)
}

impl From<Fault> for EntryError {
    fn from(Fault { line, error }: Fault) -> Self {
        Self { line, problem: error.into() }
    }
}

struct Walk<'a> {
    parser: Parser<'a>,
}

impl<'a> Walk<'a> {
    /// A Secret or a list of them.
    fn object(&mut self, node: Node<'a>) -> Result<Vec<Entry>, EntryError> {
        let line = node.line;
        let not_a_secret = EntryError { line, problem: EntryProblem::NotASecret };
        let Content::Mapping(mut mapping) = node.content else { return Err(not_a_secret) };
        let (mut kind, mut items) = (String::new(), Vec::new());
        let (mut data, mut string_data) = (Vec::new(), Vec::new());
        while let Some(name) = self.parser.next_field(&mut mapping)? {
            let value = self.parser.field_value(&mapping)?;
            match (name.text.as_str(), value.content) {
                ("kind", Content::Scalar(scalar)) => kind = scalar.text.as_str().to_owned(),
                ("data", content) => data = self.texts("data", name.line, content)?,
                ("stringData", content) => {
                    string_data = self.texts("stringData", name.line, content)?;
                }
                ("items", Content::Sequence(mut sequence)) => {
                    while let Some(item) = self.parser.next_item(&mut sequence)? {
                        items.extend(self.object(item)?);
                    }
                }
                (_, content) => self.pass_over(content)?,
            }
        }
        match kind.as_str() {
            "List" | "SecretList" => Ok(items),
            "Secret" => {
                data.retain(|one| string_data.iter().all(|other| other.name != one.name));
                let decoded = data.into_iter().map(decode).collect::<Result<Vec<_>, _>>()?;
                Ok(decoded.into_iter().chain(string_data).collect())
            }
            _ => Err(not_a_secret),
        }
    }

    /// A mapping from names to texts.
    fn texts(
        &mut self,
        field: &'static str,
        line: usize,
        content: Content<'a>,
    ) -> Result<Vec<Entry>, EntryError> {
        let not_texts = |line| EntryError { line, problem: EntryProblem::NotTexts(field) };
        let mut mapping = match content {
            Content::Mapping(mapping) => mapping,
            Content::Scalar(scalar) if matches!(scalar.text.as_str(), "" | "null" | "~") => {
                return Ok(Vec::new());
            }
            _ => return Err(not_texts(line)),
        };
        let mut entries = Vec::new();
        while let Some(name) = self.parser.next_field(&mut mapping)? {
            let line = name.line;
            let node = self.parser.field_value(&mapping)?;
            let Content::Scalar(scalar) = node.content else { return Err(not_texts(line)) };
            let name = name.text.as_str().to_owned();
            entries.push(Entry { line, name, value: scalar.text.into_plaintext() });
        }
        Ok(entries)
    }

    /// Goes over what is of no interest. The parser bounds how deep that can be.
    fn pass_over(&mut self, content: Content<'a>) -> Result<(), EntryError> {
        match content {
            Content::Scalar(_) => {}
            Content::Sequence(mut items) => {
                while let Some(item) = self.parser.next_item(&mut items)? {
                    self.pass_over(item.content)?;
                }
            }
            Content::Mapping(mut mapping) => self.pass_over_fields(&mut mapping)?,
        }
        Ok(())
    }

    fn pass_over_fields(&mut self, mapping: &mut Collection<'a>) -> Result<(), EntryError> {
        while self.parser.next_field(mapping)?.is_some() {
            let value = self.parser.field_value(mapping)?;
            self.pass_over(value.content)?;
        }
        Ok(())
    }
}

fn decode(Entry { line, name, value }: Entry) -> Result<Entry, EntryError> {
    let bytes: Option<Plaintext> =
        std::str::from_utf8(value.expose()).ok().and_then(|text| decoded(text).ok());
    match bytes {
        Some(value) => Ok(Entry { line, name, value }),
        None => Err(EntryError { line, problem: EntryProblem::NotBase64(name) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<(usize, String, Vec<u8>)> {
        let entries = parse_kubernetes(text.as_bytes()).unwrap();
        entries.into_iter().map(|one| (one.line, one.name, one.value.expose().to_vec())).collect()
    }

    #[test]
    fn reads_what_kubectl_prints() {
        let yaml = "apiVersion: v1\ndata:\n  .dockerconfigjson: e30=\n  password: aHVudGVyMg==\n  raw: /wA=\nkind: Secret\n\
                    metadata:\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: |\n      {\"data\":{}}\n  \
                    managedFields:\n  - fieldsV1:\n      f:data:\n        .: {}\n        f:password: {}\n        \
                    k:{\"uid\":\"x\"}:\n          f:x: {}\nstringData:\n  raw: text # c\ntype: Opaque\n";
        let expected = [
            (3, ".dockerconfigjson".to_owned(), b"{}".to_vec()),
            (4, "password".to_owned(), b"hunter2".to_vec()),
            (19, "raw".to_owned(), b"text".to_vec()),
        ];
        assert_eq!(parse(yaml), expected);
        let json = r#"{
    "apiVersion": "v1", "kind": "List", "items": [
        {"kind": "Secret", "data": {"a": "MQ=="}, "metadata": {"labels": {"x": "y"}}},
        {"kind": "Secret", "data": null, "stringData": {"b": "2"}}
    ]
}"#;
        assert_eq!(parse(json), [(3, "a".to_owned(), vec![b'1']), (4, "b".to_owned(), vec![b'2'])]);
        assert_eq!(
            parse("---\nkind: Secret\ndata: {a: MQ==}\n---\nkind: Secret\ndata: {b: Mg==}\n").len(),
            2
        );
    }

    #[test]
    fn what_is_wrong_has_its_line_and_shows_no_value() {
        let not_texts = EntryProblem::NotTexts("data");
        for (text, line, problem) in [
            ("kind: ConfigMap\ndata:\n  a: hunter2\n", 1, EntryProblem::NotASecret),
            ("- hunter2\n", 1, EntryProblem::NotASecret),
            ("kind: Secret\ndata:\n  a: hunter2!\n", 3, EntryProblem::NotBase64("a".into())),
            ("kind: Secret\ndata: [hunter2]\n", 2, not_texts.clone()),
            ("kind: Secret\ndata:\n  a: [hunter2]\n", 3, not_texts),
            ("kind: Secret\n", 1, EntryProblem::Nothing),
            (
                "kind: List\nitems:\n- kind: Secret\n  data: {a: MQ==}\n- kind: Secret\n  data: {a: Mg==}\n",
                6,
                EntryProblem::Duplicate { name: "a".into(), first: 4 },
            ),
        ] {
            let error = parse_kubernetes(text.as_bytes()).err().unwrap();
            assert_eq!((error.line, &error.problem), (line, &problem), "{text:?}");
            assert!(!error.to_string().contains("hunter2"));
        }
        assert!(matches!(
            parse_kubernetes(b"kind: Secret\ndata: {a: &x MQ==}\n").err().unwrap().problem,
            EntryProblem::Syntax(_)
        ));
    }
}
