// Reads lib0's numbers and strings out of a frame. One reader for all of them: a frame makes no objects but its part.

export class Bytes {
  open (data, place = 0) {
    this.data = data
    this.place = place
  }

  byte () {
    return this.data[this.place++]
  }

  number () {
    let byte = this.data[this.place++]
    if (byte < 128) return byte
    let sum = byte & 127
    for (let factor = 128; byte >= 128; factor *= 128) {
      byte = this.data[this.place++]
      sum += (byte & 127) * factor
    }
    return sum
  }

  /** The bytes behind their length. */
  part () {
    const length = this.number()
    return this.data.subarray(this.place, this.place += length)
  }

  text () {
    const length = this.number()
    return this.data.toString('utf8', this.place, this.place += length)
  }

  /** Pass a string; how many bytes it has. */
  pass () {
    const length = this.number()
    this.place += length
    return length
  }
}
