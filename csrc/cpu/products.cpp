// The raw operators of products with spikes: they allocate, arrange the values, and share the rows among the threads.
// The arguments were checked in Python, and hnn_kernels/_ops/density.py chooses between them and torch's products.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <tuple>
#include <vector>

#include "arguments.h"
#include "describe.h"
#include "products.h"

namespace hnn {
namespace {

class Scratch {
 public:
  explicit Scratch(int64_t bytes = 0) : data_(std::aligned_alloc(64, bytes / 64 * 64 + 64), &std::free), bytes_(bytes) {
    STD_TORCH_CHECK(data_, "out of memory: ", bytes, " bytes of scratch");
  }
  int64_t bytes() const { return bytes_; }
  template <class T = void>
  T* as() const {
    return static_cast<T*>(data_.get());
  }

 private:
  std::unique_ptr<void, decltype(&std::free)> data_;
  int64_t bytes_;
};

// Scratch that a thread keeps for its next call, because fresh memory costs a page fault per 4 KiB. Larger scratch is
// given back.
constexpr int64_t kKeptBytes = 16 << 20;
class KeptScratch {
 public:
  explicit KeptScratch(int64_t bytes) {
    if (kept().bytes() < bytes) kept() = Scratch(bytes);
  }
  KeptScratch(const KeptScratch&) = delete;
  ~KeptScratch() {
    if (kept().bytes() > kKeptBytes) kept() = Scratch();
  }
  void* get() const { return kept().as(); }

 private:
  static Scratch& kept() {
    thread_local Scratch scratch;
    return scratch;
  }
};

const uint8_t* bytes_at(const Tensor& t) { return static_cast<const uint8_t*>(t.data_ptr()); }
int64_t sum_bytes(const Tensor& t) { return t.scalar_type() == ScalarType::Double ? 8 : 4; }
int64_t blocks_of(int64_t outputs, int64_t block) { return (outputs + block - 1) / block; }

int64_t arranged_bytes(int64_t inputs, int64_t outputs, int64_t bytes) {
  return blocks_of(outputs, kBlockBytes / bytes) * inputs * kBlockBytes;
}
// Arranges values of `bytes` each.
void arrange(ArrangeCall call, int64_t bytes, const KeptScratch& to) {
  const ProductKernels& chosen = kernels().products;
  call.to = to.get();
  torch::stable::parallel_for(0, blocks_of(call.outputs, kBlockBytes / bytes), 1,
                              [&](int64_t begin, int64_t end) { chosen.arrange(call, begin, end); });
}

// Rows of [rows, n] as bits [rows, bytes]; how many there are, or -1 if there is another value than 0 and 1.
std::tuple<Tensor, int64_t> pack(Tensor rows) {
  const ProductKernels& chosen = kernels().products;
  const int64_t n = rows.size(1), bytes = (n + 7) / 8, stride = rows.stride(0) * rows.element_size();
  Tensor bits = new_empty_strided(rows, {rows.size(0), bytes}, {bytes, 1}, ScalarType::Byte);
  std::atomic<bool> valid{true};
  std::atomic<int64_t> total{0};
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(1, n));
  torch::stable::parallel_for(0, rows.size(0), grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      uint8_t* const to = static_cast<uint8_t*>(bits.data_ptr()) + r * bytes;
      const void* const from = static_cast<const char*>(rows.data_ptr()) + r * stride;
      if (!chosen.pack(dtype_of(rows), from, n, to)) valid = false;
    }
    total += chosen.count(bytes_at(bits) + begin * bytes, (end - begin) * bytes);
  });
  return {bits, valid ? total.load() : -1};
}

// Bits [rows, bytes] as values [rows, n] of the dtype of `like`.
Tensor unpack(Tensor bits, int64_t n, Tensor like) {
  const ProductKernels& chosen = kernels().products;
  Tensor rows = new_empty_strided(like, {bits.size(0), n}, {n, 1});
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(1, n)), stride = n * rows.element_size();
  torch::stable::parallel_for(0, bits.size(0), grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      void* const to = static_cast<char*>(rows.data_ptr()) + r * stride;
      chosen.unpack(dtype_of(like), bytes_at(bits) + r * bits.stride(0), n, to);
    }
  });
  return rows;
}

// The number of spikes in all rows of bits.
int64_t count(Tensor bits) { return kernels().products.count(bytes_at(bits), bits.numel()); }

// Rows of a task. Its scratch stays in the cache, and every thread gets some. They begin at whole words.
int64_t rows_of_task(int64_t rows) {
  const int64_t share = rows / static_cast<int64_t>(torch::stable::get_num_threads());
  return std::clamp<int64_t>((share + 63) / 64 * 64, 64, kProductRows);
}

// The product of bits, or of transposed bits, with arranged values.
void multiply(ProductCall call, const Tensor& bits, bool transposed, int64_t bytes) {
  const ProductKernels& chosen = kernels().products;
  const int64_t each = rows_of_task(call.rows), parts = (call.inputs + kProductInputs - 1) / kProductInputs;
  torch::stable::parallel_for(0, (call.rows + each - 1) / each, 1, [&](int64_t begin, int64_t end) {
    const Scratch starts(4 * (parts * each + 1)), sums(each * kBlockBytes);
    const int64_t row_bytes = transposed ? (call.inputs + 7) / 8 : bits.stride(0);
    const Scratch columns(transposed ? each * row_bytes : 0);
    for (int64_t task = begin; task < end; ++task) {
      ProductCall one = call;
      const int64_t first = task * each;
      one.rows = std::min(each, call.rows - first);
      one.row_bytes = row_bytes;
      if (transposed) {
        chosen.transpose(bytes_at(bits), call.inputs, bits.stride(0), first, one.rows, columns.as<uint8_t>(),
                         row_bytes);
        one.bits = columns.as<uint8_t>();
      } else {
        one.bits = bytes_at(bits) + first * row_bytes;
      }
      const Scratch events(4 * (chosen.count(one.bits, one.rows * row_bytes) + kListed));
      one.events = events.as<uint32_t>();
      one.starts = starts.as<uint32_t>();
      one.sums = sums.as();
      one.out = static_cast<char*>(call.out) + first * call.row_stride * bytes;
      chosen.product(one);
    }
  });
}

// bits [R, bytes] and a weight [N, K], a contiguous bias [N]: [R, N].
Tensor linear(Tensor bits, Tensor weight, Optional bias) {
  const int64_t outputs = weight.size(0), inputs = weight.size(1);
  Tensor out = new_empty_strided(weight, {bits.size(0), outputs}, {outputs, 1});
  ArrangeCall from{};
  from.dtype = dtype_of(weight);
  from.inputs = from.channels = inputs;
  from.outputs = outputs;
  from.from = weight.data_ptr();
  from.input_stride = weight.stride(1);
  from.output_stride = weight.stride(0);
  const KeptScratch values(arranged_bytes(inputs, outputs, sum_bytes(weight)));
  arrange(from, sum_bytes(weight), values);
  ProductCall call{};
  call.dtype = dtype_of(weight);
  call.rows = bits.size(0);
  call.inputs = inputs;
  call.outputs = outputs;
  call.values = values.get();
  call.bias = bias ? bias->data_ptr() : nullptr;
  call.out = out.data_ptr();
  call.row_stride = outputs;
  call.output_stride = 1;
  multiply(call, bits, false, out.element_size());
  return out;
}

// The gradient [N, K] of the weight, from grad_out [R, N] and bits [R, bytes].
Tensor linear_backward(Tensor grad_out, Tensor bits, int64_t features) {
  const int64_t outputs = grad_out.size(1);
  Tensor grad = new_empty_strided(grad_out, {outputs, features}, {features, 1});
  ArrangeCall from{};
  from.dtype = dtype_of(grad_out);
  from.inputs = from.channels = grad_out.size(0);
  from.outputs = outputs;
  from.from = grad_out.data_ptr();
  from.input_stride = grad_out.stride(0);
  from.output_stride = grad_out.stride(1);
  const KeptScratch values(arranged_bytes(grad_out.size(0), outputs, sum_bytes(grad_out)));
  arrange(from, sum_bytes(grad_out), values);
  ProductCall call{};
  call.dtype = dtype_of(grad_out);
  call.rows = features;
  call.inputs = grad_out.size(0);
  call.outputs = outputs;
  call.values = values.get();
  call.out = grad.data_ptr();
  call.row_stride = 1;
  call.output_stride = features;
  multiply(call, bits, true, grad.element_size());
  return grad;
}

ConvolutionCall describe(const Tensor& like, const Tensor& bits, int64_t channels, int64_t width, int64_t outputs,
                         const std::vector<int64_t>& kernel, const std::vector<int64_t>& padding) {
  ConvolutionCall call{};
  call.dtype = dtype_of(like);
  call.channels = channels;
  call.height = bits.size(1);
  call.width = width;
  call.outputs = outputs;
  call.kernel_height = kernel[0];
  call.kernel_width = kernel[1];
  call.top = padding[0];
  call.left = padding[1];
  call.out_height = call.height + 2 * call.top - call.kernel_height + 1;
  call.out_width = call.width + 2 * call.left - call.kernel_width + 1;
  call.bits = bytes_at(bits);
  call.row_bytes = bits.stride(1);
  return call;
}

// bits [B, H, bytes] and a weight [N, C, kh, kw], a contiguous bias [S, N], a row for each of S equal parts of the
// images: [B, N, H', W'], channels last.
Tensor conv2d(Tensor bits, Tensor weight, Optional bias, int64_t width, std::vector<int64_t> padding) {
  const ProductKernels& chosen = kernels().products;
  const std::vector<int64_t> kernel{weight.size(2), weight.size(3)};
  const int64_t channels = weight.size(1), outputs = weight.size(0), window = channels * kernel[1];
  ConvolutionCall call = describe(weight, bits, channels, width, outputs, kernel, padding);
  const int64_t places = call.out_height * call.out_width, bytes = sum_bytes(weight);
  Tensor out = new_empty_strided(weight, {bits.size(0), outputs, call.out_height, call.out_width},
                                 {outputs * places, 1, outputs * call.out_width, outputs});
  // One row of the kernel after the other. Only a weight whose rows and columns merge has one stride for both.
  const Tensor last = torch::stable::contiguous(
      torch::stable::transpose(torch::stable::transpose(weight, 1, 2), 2, 3));  // [N, kh, kw, C]
  ArrangeCall from{};
  from.dtype = call.dtype;
  from.inputs = kernel[0] * window;
  from.channels = channels;
  from.outputs = outputs;
  from.from = last.data_ptr();
  from.input_stride = 1;
  from.window_stride = channels;
  from.output_stride = from.inputs;
  const KeptScratch values(arranged_bytes(from.inputs, outputs, bytes));
  arrange(from, bytes, values);
  call.values = values.get();
  const char* const biases = bias ? static_cast<const char*>(bias->data_ptr()) : nullptr;
  const int64_t part = bias ? std::max<int64_t>(1, bits.size(0) / bias->size(0)) : 1;
  torch::stable::parallel_for(0, bits.size(0), 1, [&](int64_t begin, int64_t end) {
    const Scratch events(4 * (call.height * width * channels + kListed)), starts(4 * (call.height * width + 1));
    const Scratch row_events(4 * (kRowEvents + kernel[0] * width * channels + kListed));
    const Scratch row_starts(4 * call.out_height * (width + 1));
    for (int64_t image = begin; image < end; ++image) {
      ConvolutionCall one = call;
      one.bits += image * bits.stride(0);
      if (biases) one.bias = biases + image / part * outputs * out.element_size();
      one.out = static_cast<char*>(out.data_ptr()) + image * outputs * places * out.element_size();
      one.events = events.as<uint32_t>();
      one.starts = starts.as<uint32_t>();
      one.row_events = row_events.as<uint32_t>();
      one.row_starts = row_starts.as<uint32_t>();
      chosen.convolution(one);
    }
  });
  return out;
}

// The gradient of the weight is a sum of so many partial sums at most, each over as many consecutive images at least,
// on any number of threads.
constexpr int64_t kPartialSums = 32, kPartialImages = 4;

// Adds the partial sums up, and puts the total in the order of the weight.
template <class C>
void add_up(const ConvolutionCall& call, C* sums, int64_t parts, int64_t columns, C* grad) {
  const int64_t part = call.channels * call.kernel_height * columns;
  for (int64_t i = 1; i < parts; ++i) {
    for (int64_t j = 0; j < part; ++j) sums[j] += sums[i * part + j];
  }
  for (int64_t n = 0; n < call.outputs; ++n) {
    for (int64_t y = 0; y < call.kernel_height; ++y) {
      for (int64_t x = call.kernel_width; x-- > 0;) {
        const C* const at = sums + y * columns + x * call.outputs + n;
        C* const to =
            grad + ((n * call.kernel_height + y) * call.kernel_width + call.kernel_width - 1 - x) * call.channels;
        for (int64_t c = 0; c < call.channels; ++c) to[c] = at[c * call.kernel_height * columns];
      }
    }
  }
}

// The gradient [N, C, kh, kw] of the weight, channels last, in the type of sums; from grad_out [B, N, H', W'], channels
// last, and bits [B, H, bytes].
Tensor conv2d_backward(Tensor grad_out, Tensor bits, int64_t channels, int64_t width, std::vector<int64_t> kernel,
                       std::vector<int64_t> padding) {
  const ProductKernels& chosen = kernels().products;
  const int64_t outputs = grad_out.size(1), images = bits.size(0), bytes = sum_bytes(grad_out);
  const ConvolutionCall call = describe(grad_out, bits, channels, width, outputs, kernel, padding);
  const int64_t block = kBlockBytes / bytes, columns = blocks_of(kernel[1] * outputs, block) * block;
  const int64_t each = std::max(kPartialImages, (images + kPartialSums - 1) / kPartialSums);
  const int64_t parts = (images + each - 1) / each, part = channels * kernel[0] * columns;
  const Scratch sums(parts * part * bytes);
  torch::stable::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    const int64_t padded = call.out_height * (call.out_width + 2 * (kernel[1] - 1)) * outputs + block;
    const Scratch events(4 * channels * call.height * width), starts(4 * (call.height + 1) * channels);
    const Scratch gradient(padded * bytes);
    for (int64_t i = begin; i < end; ++i) {
      ConvolutionCall one = call;
      one.images = std::min(each, images - i * each);
      one.bits += i * each * bits.stride(0);
      one.grad_out = static_cast<const char*>(grad_out.data_ptr()) +
                     i * each * call.out_height * call.out_width * outputs * grad_out.element_size();
      one.sums = sums.as<char>() + i * part * bytes;
      one.padded = gradient.as();
      one.events = events.as<uint32_t>();
      one.starts = starts.as<uint32_t>();
      chosen.convolution_backward(one);
    }
  });
  const int64_t in_row = channels * kernel[1];
  Tensor grad =
      new_empty_strided(grad_out, {outputs, channels, kernel[0], kernel[1]}, {in_row * kernel[0], 1, in_row, channels},
                        bytes == 8 ? ScalarType::Double : ScalarType::Float);
  if (bytes == 8) {
    add_up(call, sums.as<double>(), parts, columns, static_cast<double*>(grad.data_ptr()));
  } else {
    add_up(call, sums.as<float>(), parts, columns, static_cast<float*>(grad.data_ptr()));
  }
  return grad;
}

}  // namespace
}  // namespace hnn

STABLE_TORCH_LIBRARY_IMPL(hnn, CPU, m) {
  m.impl("spike_pack", TORCH_BOX(&hnn::pack));
  m.impl("spike_unpack", TORCH_BOX(&hnn::unpack));
  m.impl("spike_count", TORCH_BOX(&hnn::count));
  m.impl("sparse_linear", TORCH_BOX(&hnn::linear));
  m.impl("sparse_linear_backward", TORCH_BOX(&hnn::linear_backward));
  m.impl("sparse_conv2d", TORCH_BOX(&hnn::conv2d));
  m.impl("sparse_conv2d_backward", TORCH_BOX(&hnn::conv2d_backward));
}
