//! The picture of a plan: time across, addresses up.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use tenzor::plan::{Plan, Problem};

use crate::bytes::bytes;

/// In pixels, of each space.
const WIDTH: u32 = 1200;
const HEIGHT: u32 = 700;

/// Draws a plan as SVG: a rectangle for each buffer and each time between its gaps, and a line where most is alive.
pub(crate) fn draw(title: &str, problem: &Problem, plan: &Plan) -> Result<String> {
    let mut svg = String::new();
    draw_to(&mut svg, title, problem, plan).map_err(|error| anyhow!("cannot draw the plan: {error}"))?;
    Ok(svg)
}

fn draw_to(svg: &mut String, title: &str, problem: &Problem, plan: &Plan) -> Result<(), Box<dyn std::error::Error>> {
    let spaces = plan.spaces().len().max(1);
    let root = SVGBackend::with_string(svg, (WIDTH, HEIGHT * spaces as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let areas = root.split_evenly((spaces, 1));
    for ((number, space), area) in (0_u32..).zip(plan.spaces()).zip(&areas) {
        let own = || problem.buffers().iter().zip(plan.offsets()).filter(|(spec, _)| spec.space == number);
        let times = own().map(|(spec, _)| &spec.lifetime);
        let first = times.clone().map(|time| time.start).min().unwrap_or(0);
        let last = times.map(|time| time.end).max().unwrap_or(0).max(first + 1);
        let capacity = problem.capacity(number);
        let top = space.height.max(capacity.unwrap_or(0)).max(1);
        let caption = match spaces {
            1 => format!("{title}: {}, {}", bytes(space.height), space.status),
            _ => format!("{title}, space {number}: {}, {}", bytes(space.height), space.status),
        };
        let mut chart = ChartBuilder::on(area)
            .caption(caption, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(80)
            .build_cartesian_2d(first as f64..last as f64, 0.0..top as f64 * 1.02)?;
        let mesh = &mut chart.configure_mesh();
        mesh.disable_mesh().x_desc("time").x_label_formatter(&|time| format!("{time:.0}"));
        mesh.y_label_formatter(&|height| bytes(*height as u64).to_string()).draw()?;
        for (index, (spec, &offset)) in own().enumerate() {
            // Neighbours get hues far from each other: steps of the golden ratio.
            let fill = HSLColor((index as f64 * 0.618_034).fract(), 0.55, 0.72).filled();
            let (low, high) = (offset as f64, (offset + spec.size) as f64);
            let begins = std::iter::once(spec.lifetime.start).chain(spec.gaps.iter().map(|gap| gap.end));
            let ends = spec.gaps.iter().map(|gap| gap.start).chain([spec.lifetime.end]);
            for (begin, end) in begins.zip(ends).filter(|(begin, end)| begin < end && spec.size > 0) {
                let corners = [(begin as f64, low), (end as f64, high)];
                chart.plotting_area().draw(&Rectangle::new(corners, fill))?;
                chart.plotting_area().draw(&Rectangle::new(corners, BLACK.mix(0.4).stroke_width(1)))?;
            }
        }
        let across = |height: u64, style: ShapeStyle| {
            let ends = vec![(first as f64, height as f64), (last as f64, height as f64)];
            chart.plotting_area().draw(&PathElement::new(ends, style))
        };
        across(space.lower_bound, BLUE.stroke_width(1))?;
        if let Some(capacity) = capacity {
            across(capacity, RED.stroke_width(2))?;
        }
        let peak = (space.peak_time as f64, 0.0);
        let line = PathElement::new(vec![peak, (peak.0, space.lower_bound as f64)], RED.stroke_width(2));
        chart.plotting_area().draw(&line)?;
        let label = format!("peak: {}", bytes(space.lower_bound));
        chart.plotting_area().draw(&Text::new(
            label,
            (peak.0, space.lower_bound as f64),
            ("sans-serif", 14).into_font().color(&RED),
        ))?;
    }
    root.present()?;
    Ok(())
}
