//! What [pprof](https://github.com/google/pprof) reads: a message of its `profile.proto`, compressed by gzip.
//!
//! The fields of the message are written as they come about, a sample at a time: in what order they stand does not matter, but for the texts among each other, which have
//! numbers in this order.

use std::collections::HashMap;
use std::io::{self, Read, Seek, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::held::{Held, Holder, at_peak};
use super::labels::Paths;
use super::protobuf::Message;
use super::shown::{self, Modules};
use crate::recording::names;
use crate::recording::{ConvertError, Recording};

impl<R: Read + Seek> Recording<R> {
    /// Writes a profile that [pprof](https://github.com/google/pprof) reads, compressed by gzip. Samples have four values: `inuse_objects` and `inuse_space`, which is what
    /// is shown unless it is asked otherwise, at the peak; `alloc_objects` and `alloc_space` of all requests, in which a resize counts as a request of as many bytes as the block
    /// has then. See the [module](crate::export) for whose memory is whose.
    ///
    /// A sample's stack is the recorded one, by modules as the recording has them; addresses are one less than those that calls return to, and so lie within the calls. `pprof` looks
    /// up symbols in the modules' files, where these are still there. Labels are `thread`, and `label`, all that the thread was in, with `;` between, which is `:` in them: `pprof -tagroot
    /// thread,label` shows them as frames. Where there is no stack, frames are the labels, or else the class of the size.
    ///
    /// # Errors
    /// The first block that is damaged; what the writer reports. What was written before stays.
    pub fn write_pprof(&mut self, out: impl Write) -> Result<(), ConvertError> {
        let held = at_peak(self)?;
        let header = self.header();
        let duration = held.last.saturating_mul(header.tick);
        let mut profile = Profile::new(out, self, held)?;
        for at in 0..profile.held.holders.len() {
            profile.sample(at)?;
        }
        let default = profile.text(Text::Word("inuse_space"))?;
        let rest = Message::new().signed(9, header.began).signed(10, duration).number(14, default);
        rest.write(&mut profile.out)?;
        profile.out.finish()?.flush()?;
        Ok(())
    }
}

/// A text, by what it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Text {
    Word(&'static str),
    Thread(u32),
    /// All labels of a path.
    Path(usize),
    Place(Place),
    Module(u32),
}

/// Where a request was made, or what stands for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Address(u64),
    /// A stack that there are no addresses of.
    Stack(u64),
    Label(u64),
    Class(u32),
}

#[derive(Debug)]
struct Profile<'a, R, W: Write> {
    out: GzEncoder<W>,
    recording: &'a Recording<R>,
    held: Held,
    modules: Modules<'a>,
    texts: HashMap<Text, u64>,
    places: HashMap<Place, u64>,
}

impl<'a, R, W: Write> Profile<'a, R, W> {
    /// Writes what samples are of, and the modules.
    fn new(out: W, recording: &'a Recording<R>, held: Held) -> io::Result<Self> {
        let (out, modules) = (GzEncoder::new(out, Compression::default()), Modules::of(recording));
        let mut profile = Self { out, recording, held, modules, texts: HashMap::new(), places: HashMap::new() };
        profile.text(Text::Word(""))?;
        for (kind, unit) in
            [("inuse_objects", "count"), ("inuse_space", "bytes"), ("alloc_objects", "count"), ("alloc_space", "bytes")]
        {
            let (kind, unit) = (profile.text(Text::Word(kind))?, profile.text(Text::Word(unit))?);
            profile.field(1, &Message::new().number(1, kind).number(2, unit))?;
        }
        for (number, module) in profile.modules.all() {
            let file = profile.text(Text::Module(number))?;
            let mapping = Message::new()
                .number(1, mapping(number))
                .number(2, module.begin)
                .number(3, module.end)
                .number(4, module.offset)
                .number(5, file);
            profile.field(3, &mapping)?;
        }
        Ok(profile)
    }

    fn field(&mut self, field: u32, message: &Message) -> io::Result<()> {
        Message::new().message(field, message).write(&mut self.out)
    }

    /// The number of a text, which is written when it is needed first.
    fn text(&mut self, text: Text) -> io::Result<u64> {
        if let Some(&number) = self.texts.get(&text) {
            return Ok(number);
        }
        let number = self.texts.len() as u64;
        self.texts.insert(text, number);
        let shown = match text {
            Text::Word(word) => word.to_owned(),
            Text::Thread(number) => shown::thread(self.recording, number).into_owned(),
            Text::Path(path) => {
                let labels =
                    self.held.paths.labels(path).map(|label| shown::label(self.recording, label).replace(';', ":"));
                let mut labels: Vec<_> = labels.collect();
                labels.reverse();
                labels.join(";")
            }
            Text::Module(number) => {
                let module = self.recording.name(names::Kind::Module, number).and_then(names::module);
                module.map(|module| names::text(module.path).into_owned()).unwrap_or_default()
            }
            Text::Place(Place::Address(_)) => String::new(),
            Text::Place(Place::Stack(number)) => shown::stack(number),
            Text::Place(Place::Label(label)) => shown::label(self.recording, label).into_owned(),
            Text::Place(Place::Class(class)) => shown::class(class),
        };
        Message::new().bytes(6, shown.as_bytes()).write(&mut self.out)?;
        Ok(number)
    }

    /// The number of a place, which is written when it is needed first; what is no address is written as a function.
    fn place(&mut self, place: Place) -> io::Result<u64> {
        if let Some(&number) = self.places.get(&place) {
            return Ok(number);
        }
        let number = self.places.len() as u64 + 1;
        self.places.insert(place, number);
        let location = Message::new().number(1, number);
        let location = if let Place::Address(address) = place {
            let module = self.modules.at(address).map(|(module, _)| mapping(*module));
            location.number(2, module.unwrap_or(0)).number(3, address.saturating_sub(1))
        } else {
            let name = self.text(Text::Place(place))?;
            self.field(5, &Message::new().number(1, number).number(2, name).number(3, name))?;
            location.message(4, &Message::new().number(1, number))
        };
        self.field(4, &location)?;
        Ok(number)
    }

    fn sample(&mut self, at: usize) -> io::Result<()> {
        let (holder, sums) = self.held.holders[at];
        let values = [sums.inuse_objects, sums.inuse_bytes, sums.alloc_objects, sums.alloc_bytes];
        if values == [0; 4] {
            return Ok(());
        }
        let mut places = Vec::new();
        for place in self.frames(&holder) {
            places.push(self.place(place)?);
        }
        let values = values.map(|value| value.min(i64::MAX as u64));
        let mut sample = Message::new().numbers(1, places).numbers(2, values);
        let path = (holder.path != Paths::NONE).then_some(("label", Text::Path(holder.path)));
        for (key, text) in [("thread", Text::Thread(holder.thread))].into_iter().chain(path) {
            let (key, text) = (self.text(Text::Word(key))?, self.text(text)?);
            sample = sample.message(3, &Message::new().number(1, key).number(2, text));
        }
        self.field(2, &sample)
    }

    /// The innermost first.
    fn frames(&self, holder: &Holder) -> Vec<Place> {
        let Some(stack) = holder.stack else {
            let labels = self.held.paths.labels(holder.path).map(Place::Label);
            return holder.class.map(Place::Class).into_iter().chain(labels).collect();
        };
        let addresses: Vec<_> = shown::addresses(self.recording, stack).map(Place::Address).collect();
        if addresses.is_empty() { vec![Place::Stack(stack)] } else { addresses }
    }
}

/// The number of a module among the mappings, where 0 is none.
fn mapping(module: u32) -> u64 {
    u64::from(module) + 1
}
