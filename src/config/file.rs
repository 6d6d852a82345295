//! What one input file says.

/// What stands for bytes that are no UTF-8: no character, and as such refused by systemd like those bytes
/// (`unichar_is_valid`, basic/utf8.c).
pub(super) const BROKEN: char = '\u{ffff}';

/// What reading one input file gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileText {
    /// There is no such file. For every input that is a normal state, not an error.
    Absent,
    /// Its text. Bytes that are no UTF-8 have become [`BROKEN`]: the agent takes bytes as they are, and a wish in a
    /// readable line must not be lost to a broken comment elsewhere in the file.
    Text(String),
    /// It is there, but what it says is not known: the reason, as a clause ready for a person.
    Unreadable(String),
}

impl FileText {
    /// The text of bytes already read.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        if let Some(at) = bytes.iter().position(|&b| b == 0) {
            let line = 1 + bytes.iter().take(at).filter(|&&b| b == b'\n').count();
            return Self::Unreadable(format!(
                "is binary (a NUL byte in line {line}); expected text"
            ));
        }
        let mut text = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                text.push(BROKEN);
            }
        }
        Self::Text(text)
    }

    /// The text, where there is any.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_binary_and_broken_utf8_is_not() {
        assert_eq!(
            FileText::from_bytes(b"A=b\nC=\0d"),
            FileText::Unreadable("is binary (a NUL byte in line 2); expected text".into())
        );
        assert_eq!(
            FileText::from_bytes(b"A=\xff\n"),
            FileText::Text("A=\u{ffff}\n".into())
        );
    }

    #[test]
    fn a_real_replacement_character_is_text() {
        assert_eq!(
            FileText::from_bytes("A=\u{fffd}\n".as_bytes()),
            FileText::Text("A=\u{fffd}\n".into())
        );
    }
}
