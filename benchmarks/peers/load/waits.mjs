// Waits in milliseconds, counted in classes 2 % apart: millions of them take no memory.

const STEP = Math.log(1.02)
const LEAST = 0.05

export class Waits {
  constructor () {
    this.counts = new Uint32Array(1000)
    this.total = 0
    this.longest = 0
  }

  add (ms) {
    const place = ms <= LEAST ? 0 : Math.min(999, Math.ceil(Math.log(ms / LEAST) / STEP))
    this.counts[place] += 1
    this.total += 1
    if (ms > this.longest) this.longest = ms
  }

  /** The wait that the part `q` of all stays below. */
  quantile (q) {
    let left = Math.ceil(this.total * q)
    for (let place = 0; place < 1000; place++) {
      left -= this.counts[place]
      if (left <= 0 && this.total) return LEAST * Math.exp(place * STEP)
    }
    return null
  }

  told () {
    return { count: this.total, p50: this.quantile(0.5), p95: this.quantile(0.95), p99: this.quantile(0.99), longest: this.longest }
  }
}

export function waitsOf (values) {
  const waits = new Waits()
  for (const value of values) waits.add(value)
  return waits
}
