//! Compression of records.

#[cfg(feature = "pack")]
pub(super) use with::{pack, unpack};
#[cfg(not(feature = "pack"))]
pub(super) use without::unpack;

#[cfg(feature = "pack")]
mod with {
    use std::io::{self, Read, Write};

    use flate2::Compression;
    use flate2::read::DeflateDecoder;
    use flate2::write::DeflateEncoder;

    use crate::recording::format::RECORD_BYTES;

    pub(in crate::recording) fn pack(records: &[u8]) -> io::Result<Vec<u8>> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(records)?;
        let mut packed = encoder.finish()?;
        packed.resize(packed.len().next_multiple_of(RECORD_BYTES), 0);
        Ok(packed)
    }

    /// So many records; what is wrong if it is not these.
    pub(in crate::recording) fn unpack(packed: &[u8], records: u32) -> Result<Vec<u8>, &'static str> {
        let bytes = records as usize * RECORD_BYTES;
        let mut unpacked = Vec::new();
        // A byte more tells whether there are more.
        let read = DeflateDecoder::new(packed).take(bytes as u64 + 1).read_to_end(&mut unpacked);
        match read {
            Ok(read) if read == bytes => Ok(unpacked),
            Ok(_) => Err("holds another number of events than it says"),
            Err(_) => Err("cannot be decompressed"),
        }
    }
}

#[cfg(not(feature = "pack"))]
mod without {
    pub(in crate::recording) fn unpack(_: &[u8], _: u32) -> Result<Vec<u8>, &'static str> {
        Err("is compressed, and the feature `pack` is not there")
    }
}
