//! Content codings of answers, by the libraries that everybody uses: bytes in, bytes out, as much as there is at a time.

use std::io::{self, Write as _};

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use bytes::BytesMut;
use flate2::write::GzEncoder;

use crate::policy::compression::{Coding, Effort};

/// Bytes of the past that an encoder looks back to, as a power of two: each answer on its way holds them more than once.
const WINDOW: u32 = 18;

/// Bytes that brotli writes at once.
const BROTLI_BLOCK: usize = 4096;

/// One answer being encoded.
pub(super) struct Encoder {
    kind: Kind,
    /// Whether something has gone in that may not have come out.
    holds: bool,
}

enum Kind {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// An encoder that has had nothing.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn new(coding: Coding, effort: Effort) -> io::Result<Self> {
        let kind = match coding {
            Coding::Gzip => {
                let level = [1, 5, 9][effort as usize];
                Kind::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(level)))
            }
            Coding::Brotli => {
                let quality = [1, 4, 8][effort as usize];
                let lgwin = i32::try_from(WINDOW).unwrap_or_default();
                let params = BrotliEncoderParams { quality, lgwin, ..BrotliEncoderParams::default() };
                Kind::Brotli(Box::new(CompressorWriter::with_params(Vec::new(), BROTLI_BLOCK, &params)))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), [1, 3, 9][effort as usize])?;
                encoder.window_log(WINDOW)?;
                Kind::Zstd(encoder)
            }
        };
        Ok(Self { kind, holds: false })
    }

    /// Takes more of the answer, and adds what is ready of it to `out`.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn push(&mut self, data: &[u8], out: &mut BytesMut) -> io::Result<()> {
        self.holds = true;
        match &mut self.kind {
            Kind::Gzip(encoder) => encoder.write_all(data)?,
            Kind::Brotli(encoder) => encoder.write_all(data)?,
            Kind::Zstd(encoder) => encoder.write_all(data)?,
        }
        let written = self.written();
        out.extend_from_slice(written);
        written.clear();
        Ok(())
    }

    /// Adds everything that has gone in to `out`, so that the client can read all of it.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn flush(&mut self, out: &mut BytesMut) -> io::Result<()> {
        if !std::mem::take(&mut self.holds) {
            return Ok(());
        }
        match &mut self.kind {
            Kind::Gzip(encoder) => encoder.flush()?,
            Kind::Brotli(encoder) => encoder.flush()?,
            Kind::Zstd(encoder) => encoder.flush()?,
        }
        let written = self.written();
        out.extend_from_slice(written);
        written.clear();
        Ok(())
    }

    /// Ends the answer: adds the rest to `out`.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn finish(self, out: &mut BytesMut) -> io::Result<()> {
        out.extend_from_slice(&match self.kind {
            Kind::Gzip(encoder) => encoder.finish()?,
            Kind::Brotli(encoder) => encoder.into_inner(),
            Kind::Zstd(encoder) => encoder.finish()?,
        });
        Ok(())
    }

    fn written(&mut self) -> &mut Vec<u8> {
        match &mut self.kind {
            Kind::Gzip(encoder) => encoder.get_mut(),
            Kind::Brotli(encoder) => encoder.get_mut(),
            Kind::Zstd(encoder) => encoder.get_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// What a client reads of bytes that may not be all.
    fn decode(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut reader: Box<dyn Read + '_> = match coding {
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
            Coding::Brotli => Box::new(brotli::Decompressor::new(bytes, 4096)),
            Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes).expect("a decoder")),
        };
        let (mut all, mut block) = (Vec::new(), [0; 4096]);
        while let Ok(n @ 1..) = reader.read(&mut block) {
            all.extend_from_slice(&block[..n]);
        }
        all
    }

    #[test]
    fn what_comes_out_is_what_went_in_and_smaller() {
        let page = b"<p>one and the same line, and again one and the same line</p>\n".repeat(3000);
        for coding in Coding::ALL {
            for effort in [Effort::Low, Effort::Medium, Effort::High] {
                let mut encoder = Encoder::new(coding, effort).expect("an encoder");
                let mut out = BytesMut::new();
                for piece in page.chunks(7001) {
                    encoder.push(piece, &mut out).expect("memory");
                }
                encoder.finish(&mut out).expect("memory");
                assert!(out.len() < page.len() / 20, "{coding:?}: {}", out.len());
                assert_eq!(decode(coding, &out), page, "{coding:?}");
            }
        }
    }

    #[test]
    fn what_was_flushed_can_be_read_before_the_end() {
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding, Effort::Medium).expect("an encoder");
            let mut out = BytesMut::new();
            encoder.push(b"data: one\n\n", &mut out).expect("memory");
            encoder.flush(&mut out).expect("memory");
            assert_eq!(decode(coding, &out), b"data: one\n\n", "{coding:?}");
            let before = out.len();
            encoder.flush(&mut out).expect("memory");
            assert_eq!(out.len(), before, "{coding:?}: with nothing new there is nothing to say");
            encoder.push(b"data: two\n\n", &mut out).expect("memory");
            encoder.finish(&mut out).expect("memory");
            assert_eq!(decode(coding, &out), b"data: one\n\ndata: two\n\n", "{coding:?}");
        }
    }
}
