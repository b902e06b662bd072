// POT's words that have no counterpart, each with what to do instead. Private to pot_config.cpp.
#pragma once
#include <string_view>

namespace quern {

struct RefusedWord { std::string_view word, instead; };

inline constexpr RefusedWord refused_algorithms[] = {
    {"AccuracyAwareQuantization", "the search by accuracy is not there yet; write DefaultQuantization and see the metric of the evaluation data"},
    {"AccuracyAwareGNA", "the search by accuracy is not there yet; write DefaultQuantization"},
    {"AccuracyAwareCommon", "the search by accuracy is not there yet; write DefaultQuantization"},
    {"WeightBiasCorrection", "write FastBiasCorrection, which measures the shift instead of deriving it from the weights"},
    {"OverflowCorrection", "accumulators are fitted to the target's rules in every run; leave it out"},
    {"RangeSupervision", "put Clip nodes into the model"},
    {"RangeOptimization", "write MinMaxQuantization; the estimator mse of a native configuration searches ranges"},
    {"TunableQuantization", "hyper-parameter search is not done; write MinMaxQuantization with the parameters wanted"},
    {"ParamsGridSearchAlgorithm", "hyper-parameter search is not done; write the parameters wanted"},
    {"OptimizationAlgorithm", "hyper-parameter search is not done; write the parameters wanted"},
    {"DataFreeQuantization", "calibration data is needed; write DefaultQuantization with an engine that has data"},
    {"INT4MixedQuantization", "write DefaultQuantization with weights.bits for a target that has 4-bit weights"},
    {"QuantNoiseEstimator", "the signal-to-noise ratio of the outputs is in every report; leave it out"},
    {"OutlierChannelSplitting", "write ActivationChannelAlignment, which evens out channels without splitting them"},
    {"WeightSparsity", "networks are not pruned here; prune before quantizing"},
    {"BaseWeightSparsity", "networks are not pruned here; prune before quantizing"},
    {"MagnitudeSparsity", "networks are not pruned here; prune before quantizing"},
};

inline constexpr std::string_view usable_algorithms[] = {
    "DefaultQuantization", "MinMaxQuantization", "ActivationChannelAlignment", "FastBiasCorrection", "BiasCorrection"};

// Of DefaultQuantization's layer-wise tuning and of AccuracyAwareQuantization.
inline constexpr RefusedWord refused_parameters[] = {
    {"num_samples_for_tuning", "layers are not tuned by training; leave it out"},
    {"batch_size", "layers are not tuned by training; leave it out"},
    {"optimizer", "layers are not tuned by training; leave it out"},
    {"loss", "layers are not tuned by training; leave it out"},
    {"calibration_indices_pool", "layers are not tuned by training; leave it out"},
    {"weight_decay", "layers are not tuned by training; leave it out"},
    {"use_ranking_subset", "layers are not tuned by training; leave it out"},
    {"calculate_grads_on_loss_increase_only", "layers are not tuned by training; leave it out"},
    {"outputs", "the types of outputs are the target's rules; leave it out"},
    {"target_device", "write it under compression"},
    {"maximal_drop", "it belongs to AccuracyAwareQuantization, which is not there yet"},
    {"drop_type", "it belongs to AccuracyAwareQuantization, which is not there yet"},
    {"metric_subset_ratio", "it belongs to AccuracyAwareQuantization, which is not there yet"},
    {"ranking_subset_size", "it belongs to AccuracyAwareQuantization, which is not there yet"},
    {"max_iter_num", "it belongs to AccuracyAwareQuantization, which is not there yet"},
    {"use_prev_if_drop_increase", "it belongs to AccuracyAwareQuantization, which is not there yet"},
    {"base_algorithm", "it belongs to AccuracyAwareQuantization, which is not there yet"},
    {"tune_hyperparams", "it belongs to AccuracyAwareQuantization, which is not there yet"},
    {"convert_to_mixed_preset", "it belongs to AccuracyAwareQuantization, which is not there yet"},
    {"annotation_free", "it belongs to AccuracyAwareQuantization, which is not there yet"},
    {"annotation_conf_threshold", "it belongs to AccuracyAwareQuantization, which is not there yet"},
    {"metrics", "it belongs to AccuracyAwareQuantization, which is not there yet"},
};

inline constexpr RefusedWord refused_of_accuracy_checker[] = {
    {"config", "files of Accuracy Checker are not read"},
    {"launchers", "what Accuracy Checker runs on is not configured here"},
    {"datasets", "data sets of Accuracy Checker are not read"},
    {"module", "Python modules are not run"},
    {"module_config", "Python modules are not run"},
    {"models", "files of Accuracy Checker are not read"},
};

}  // namespace quern
