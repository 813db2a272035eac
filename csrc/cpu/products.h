// The calls that the host hands to the kernels of products with spikes: plain pointers and sizes, without torch. A
// spike train comes as bits. A row of bits begins with a byte of its own, lowest bit first.
#pragma once

#include <cstdint>

namespace hnn {

// The sums of a block of outputs. They fill two registers of 64 bytes, four of 32 or eight of 16: enough to hide the
// latency of an addition. A block of an instruction set's own size was slower for 32 outputs with AVX-512.
constexpr int64_t kBlockBytes = 128;
// The inputs whose values for a block of outputs stay in the L1 cache, and the rows whose sums stay in the L2 cache.
constexpr int64_t kProductInputs = 256, kProductRows = 512;
// Lists of events are written by so many, and may so go so far beyond their end. The lists of a convolution's rows of
// outputs that are made at once stay in the L2 cache.
constexpr int64_t kListed = 8, kRowEvents = 32768;

// A task of the product of bits [rows, inputs] and values [inputs, outputs]: some of the rows.
struct ProductCall {
  int dtype;  // of `bias` and `out`
  int64_t rows, inputs, outputs;
  const uint8_t* bits;
  int64_t row_bytes;
  const void* values;  // from `arrange`
  const void* bias;    // [outputs], or null
  void* out;           // element (row, output) at row * row_stride + output * output_stride
  int64_t row_stride, output_stride;
  // Scratch: as many as there are spikes, and kListed; rows * blocks of inputs, and one; rows * kBlockBytes.
  uint32_t *events, *starts;
  void* sums;
};

// Values for the kernels, of a block of outputs after the other: [blocks, inputs, outputs of a block] in the type that
// sums have, with zeros where there is no output. Element (input, output) is read at input * input_stride + output *
// output_stride, or, with a `window`, at (input % channels) * input_stride + (input / channels) * window_stride + ....
struct ArrangeCall {
  int dtype;  // of `from`
  int64_t inputs, outputs;
  const void* from;
  int64_t input_stride, output_stride;
  int64_t channels, window_stride;
  void* to;
};

// A convolution of stride 1 over images of bits [height, width * channels], channels last: one image, or the gradient
// of the weight from some images.
struct ConvolutionCall {
  int dtype;
  int64_t channels, height, width;
  int64_t outputs, out_height, out_width;
  int64_t kernel_height, kernel_width, top, left;  // the last two are the padding
  const uint8_t* bits;
  int64_t row_bytes;
  // Forward. `values` are from `arrange`; their inputs are [kernel_height, kernel_width, channels].
  const void *values, *bias;
  void* out;  // [out_height, out_width, outputs]
  // Backward: `images` of them, at `bits` and at `grad_out` [images, out_height, out_width, outputs]. `sums` becomes
  // [channels, kernel_height, kernel_width * outputs (filled up to whole blocks)], columns from the right to the left.
  int64_t images;
  const void* grad_out;
  void *sums, *padded;
  // Scratch. Forward: events [height * width * channels + kListed], starts [height * width + 1], row_events
  // [kRowEvents + kernel_height * width * channels + kListed], row_starts [out_height, width + 1].
  // Backward: events [channels, height * width], starts [height + 1, channels].
  uint32_t *events, *starts, *row_events, *row_starts;
};

struct ProductKernels {
  // Packs n values. Returns false if there is another one than 0 and 1.
  bool (*pack)(int dtype, const void* values, int64_t n, uint8_t* bits);
  void (*unpack)(int dtype, const uint8_t* bits, int64_t n, void* values);
  int64_t (*count)(const uint8_t* bits, int64_t bytes);
  // Columns first ... first + count - 1 of [rows, row_bytes] become rows of `out_bytes`; `first` is a multiple of 64.
  void (*transpose)(const uint8_t* bits, int64_t rows, int64_t row_bytes, int64_t first, int64_t count, uint8_t* out,
                    int64_t out_bytes);
  void (*arrange)(const ArrangeCall&, int64_t first_block, int64_t last_block);
  void (*product)(const ProductCall&);
  void (*convolution)(const ConvolutionCall&);
  void (*convolution_backward)(const ConvolutionCall&);
};

}  // namespace hnn
