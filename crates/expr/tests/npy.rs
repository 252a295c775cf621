//! NumPy's files, made by hand, and what is none.
#![cfg(feature = "npy")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::error::Error;
use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom};

use tenzor_expr::{Item, NpyError, Shape, ShapeError, ShapeErrorKind, Tensor, View};
use tenzor_memory::{PoolConfig, TensorAllocator};

type Result = std::result::Result<(), Box<dyn Error>>;

/// A file of version 1.0 with this header and these bytes of elements.
fn file(header: &str, elements: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(elements);
    bytes
}

fn read<T: Item>(bytes: &[u8]) -> std::result::Result<(Shape, Vec<T>), NpyError> {
    let alloc = TensorAllocator::new();
    let tensor = Tensor::<T, _>::read_npy(Cursor::new(bytes), &alloc)?;
    Ok((tensor.shape(), tensor.as_slice().to_vec()))
}

fn written<T: Item>(view: View<'_, T>) -> Vec<u8> {
    let mut bytes = Vec::new();
    view.write_npy(&mut bytes).unwrap();
    bytes
}

/// `numpy.save` of `numpy.array([[1, 2, 3], [4, 5, 6]], numpy.float32)`.
fn matrix() -> Vec<u8> {
    let header = format!("{:117}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
    file(&header, b"\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40\0\0\xa0\x40\0\0\xc0\x40")
}

#[test]
fn what_numpy_wrote_is_read_and_written_to_the_byte() -> Result {
    let (shape, elements) = read::<f32>(&matrix())?;
    assert_eq!((&shape[..], &elements[..]), (&[2, 3][..], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0][..]));
    assert_eq!(written(View::new(&elements, shape)?), matrix());

    let header = |bytes: &[u8]| String::from_utf8(bytes[10..bytes.len().min(128)].to_vec()).unwrap();
    let scalar = written(View::new(&[1.5_f64], [])?);
    assert!(header(&scalar).starts_with("{'descr': '<f8', 'fortran_order': False, 'shape': (), } "));
    assert_eq!(scalar[128..], 1.5_f64.to_le_bytes());
    let flags = written(View::new(&[true, false, true], [3])?);
    assert!(header(&flags).starts_with("{'descr': '|b1', 'fortran_order': False, 'shape': (3,), } "));
    assert_eq!(flags[128..], [1, 0, 1]);
    assert_eq!(read::<bool>(&flags)?.1, [true, false, true]);
    let none = written(View::<f32>::new(&[], [0, 2])?);
    assert_eq!((none.len(), read::<f32>(&none)?.0[..].to_vec()), (128, vec![0, 2]));
    let long = written(View::new(&[0.0_f64], [1; 6])?);
    assert_eq!((long.len(), read::<f64>(&long)?.0[..].to_vec()), (136, vec![1; 6]));
    // Longer than a line of 128 bytes.
    let huge = written(View::<f64>::new(&[], [0, 1 << 40, 1 << 10, 1, 1, 1])?);
    assert_eq!(huge.len() % 64, 0);
    assert_eq!(read::<f64>(&huge)?.0[..], [0, 1 << 40, 1 << 10, 1, 1, 1]);
    Ok(())
}

#[test]
fn all_orders_and_spellings_are_read() -> Result {
    let bytes: Vec<u8> = (1..=6_u8).flat_map(|i| f64::from(i).to_le_bytes()).collect();
    // The columns of [[1, 3, 5], [2, 4, 6]], one after the other.
    let fortran = file("{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3), }\n", &bytes);
    assert_eq!(read::<f64>(&fortran)?.1, [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    let cube = file("{'descr': '<f8', 'fortran_order': True, 'shape': (1, 2, 3), }", &bytes);
    assert_eq!(read::<f64>(&cube)?.1, [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    for header in [
        "{'shape': (6L,), 'fortran_order': False, 'descr': '<f8'}",
        "  {\"descr\":\"<f8\",\"fortran_order\":False,\"shape\":( 6 , )}   \n",
        "{'descr': '<f8', 'fortran_order': True, 'shape': (6,), }",
    ] {
        assert_eq!(read::<f64>(&file(header, &bytes))?.1, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }
    let mut version = b"\x93NUMPY\x03\x00\x37\x00\x00\x00".to_vec();
    version.extend(b"{'descr': '<f8', 'fortran_order': False, 'shape': (), }\n");
    version[8] = u8::try_from(version.len() - 12)?;
    version.extend(2.5_f64.to_le_bytes());
    let (shape, elements) = read::<f64>(&version)?;
    assert_eq!((shape, elements), (Shape::SCALAR, vec![2.5]));

    // One after the other.
    let alloc = TensorAllocator::new();
    let mut two = Cursor::new([matrix(), matrix()].concat());
    for _ in 0..2 {
        assert_eq!(Tensor::<f32, _>::read_npy(&mut two, &alloc)?.as_slice()[5], 6.0);
    }
    assert!(matches!(Tensor::<f32, _>::read_npy(&mut two, &alloc), Err(NpyError::Header(_))));
    Ok(())
}

#[test]
fn views_of_any_order_come_back_as_they_are() -> Result {
    let alloc = TensorAllocator::new();
    let elements: Vec<f32> = (0..9000).map(|i| i as f32).collect();
    let turned = View::with_strides(&elements, [90, 100], &[1, -90], 8910)?;
    let copy = tenzor_expr::eval(&turned, &alloc)?;
    let mut file = Cursor::new(written(turned));
    let back = Tensor::<f32, _>::read_npy(&mut file, &alloc)?;
    assert_eq!((back.shape(), back.as_slice()), (copy.shape(), copy.as_slice()));
    // The same elements in the other order, as Fortran's.
    let mut fortran = written(View::new(&elements, [90, 100])?);
    let place = fortran.windows(5).position(|word| word == b"False").unwrap();
    fortran[place..place + 5].copy_from_slice(b"True ");
    let back = Tensor::<f32, _>::read_npy(Cursor::new(fortran), &alloc)?;
    let expected = View::with_strides(&elements, [90, 100], &[1, 90], 0)?.to_vec();
    assert_eq!(back.as_slice(), expected);
    Ok(())
}

#[test]
fn other_types_are_named() {
    for descr in ["<f4", ">f8", "<i8", "|b1", "<c16", "|O", "", "=f8"] {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,), }}");
        match read::<f64>(&file(&header, &[0; 16])) {
            Err(NpyError::Type { expected: "<f8", found }) => assert_eq!(found, descr),
            other => panic!("{descr}: {other:?}"),
        }
    }
    let record = file("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }", &[0; 8]);
    let said = read::<f64>(&record).unwrap_err().to_string();
    assert_eq!(said, "npy: the elements are of the type of a record, not one of numbers");
}

/// Nothing that can be written into a file does harm, and nothing is allocated for elements that are not there.
#[test]
fn hostile_files_are_refused_before_anything_is_allocated() {
    let alloc = TensorAllocator::new();
    let refused = |bytes: &[u8]| {
        let error = Tensor::<f64, _>::read_npy(Cursor::new(bytes), &alloc).err();
        let error = error.unwrap_or_else(|| panic!("read: {:?}", String::from_utf8_lossy(bytes)));
        assert_eq!(alloc.stats().allocations, 0);
        error
    };
    let shaped =
        |shape: &str| file(&format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"), &[0; 8]);
    for (shape, expected) in [("(2,)", 16), ("(1000000, 1000000)", 8_000_000_000_000)] {
        match refused(&shaped(shape)) {
            NpyError::Truncated { expected: bytes, found: 8 } => assert_eq!(bytes, expected),
            other => panic!("{other:?}"),
        }
    }
    for shape in [
        "(4294967296, 4294967296)",
        "(18446744073709551615,)",
        "(99999999999999999999999,)",
        "(0, 9223372036854775807)",
    ] {
        assert!(
            matches!(refused(&shaped(shape)), NpyError::Shape(ShapeError { kind: ShapeErrorKind::TooLarge, .. })),
            "{shape}"
        );
    }
    assert!(matches!(
        refused(&shaped("(1,1,1,1,1,1,1)")),
        NpyError::Shape(ShapeError { kind: ShapeErrorKind::Rank { rank: 7 }, .. })
    ));
    for shape in [
        "(-1,)", "1", "[1]", "(1 1)", "(,)", "(1,,)", "(1", "(1.0,)", "((1,),)", "(0x1,)", "('1',)", "(1,)(", "(L,)",
        "é",
    ] {
        assert!(matches!(refused(&shaped(shape)), NpyError::Header(_)), "{shape}");
    }
    let nested = [&"(".repeat(9000), &"{".repeat(9000), &"[".repeat(9000), &"'".repeat(9000)];
    for header in [
        "",
        "{",
        "}",
        "{}",
        "{'",
        "{'descr",
        "None",
        "{'descr': '<f8'}",
        "{'descr': '<f8', 'descr': '<f8'}",
        "{'x': 1}",
        "{'descr': '<f8', 'fortran_order': 1, 'shape': (1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1,)} and more",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), 'x': 1}",
        "{'descr': '<f8\n', 'fortran_order': False 'shape': (1,)}",
        "{'é': '<f8'}",
        "{é: '<f8'}",
    ]
    .into_iter()
    .chain(nested.map(|nested| &nested[..]))
    {
        assert!(matches!(refused(&file(header, &[0; 8])), NpyError::Header(_)), "{header}");
    }
    assert!(matches!(refused(&file("{'descr': '\u{1}\u{7f}'}", &[])), NpyError::Header(_)));
    for start in [
        &b""[..],
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00",
        b"PK\x03\x04....",
        b"\x93NUMPY\x04\x00\x00\x00",
        b"\x93NUMPY\x01\x01\x00\x00",
    ] {
        assert!(matches!(refused(start), NpyError::Header(_)));
    }
    // Four GiB of header.
    assert!(matches!(refused(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"), NpyError::Header("its header is too long")));
    // Cut anywhere, and with any byte changed, it is an error or another tensor.
    for end in 0..matrix().len() {
        assert!(read::<f32>(&matrix()[..end]).is_err());
    }
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..20_000 {
        let mut bytes = matrix();
        for _ in 0..random.usize(1..4) {
            let place = random.usize(..80);
            bytes[place] = random.u8(..);
        }
        let _ = read::<f32>(&bytes);
    }
}

/// A file that is longer than what can be read of it.
struct Broken(Cursor<Vec<u8>>);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.position() >= 128 { Err(ErrorKind::TimedOut.into()) } else { self.0.read(buffer) }
    }
}

impl Seek for Broken {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn errors_of_others_are_passed_on() -> Result {
    let alloc = TensorAllocator::new();
    let broken = Broken(Cursor::new(matrix()));
    let error = Tensor::<f32, _>::read_npy(broken, &alloc).err().ok_or("no error")?;
    assert!(matches!(&error, NpyError::Io(error) if error.kind() == ErrorKind::TimedOut));
    assert_eq!(alloc.stats().bytes_in_use, 0);
    let small = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(16)));
    assert!(matches!(Tensor::<f32, _>::read_npy(Cursor::new(matrix()), &small), Err(NpyError::Alloc(_))));
    let full = &mut [0_u8; 130][..];
    let error = View::new(&[1.0_f32; 6], [6])?.write_npy(full).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WriteZero);
    Ok(())
}

#[test]
fn indices_are_read_of_either_type_that_numpy_gives_them() {
    let alloc = TensorAllocator::new();
    let x = Tensor::from_slice_in(&[0_usize, 7, usize::MAX >> 1], [3], &alloc).unwrap();
    let mut file = Cursor::new(Vec::new());
    x.write_npy(&mut file).unwrap();
    let bytes = file.into_inner();
    assert!(bytes.windows(3).any(|name| name == b"<u8"));
    let is_read = |bytes: &[u8]| Tensor::<usize, _>::read_npy(Cursor::new(bytes), &alloc);
    assert_eq!(is_read(&bytes).unwrap().as_slice(), x.as_slice());
    let mut signed = bytes.clone();
    let place = bytes.windows(3).position(|name| name == b"<u8").unwrap();
    signed[place + 1] = b'i';
    assert_eq!(is_read(&signed).unwrap().as_slice(), x.as_slice());
    let last = signed.len() - 1;
    signed[last] = 0xff;
    assert!(matches!(is_read(&signed), Err(NpyError::Value { expected: "usize" })));
}
